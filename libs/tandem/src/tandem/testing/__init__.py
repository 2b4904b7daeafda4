"""What tests of a pair of services need: ``crashes`` makes them fail in the middle and judges."""

"""What tests of a service need from the service kit."""

"""The whole system on a real cluster, driven as a person would: helm, kubectl and HTTP."""

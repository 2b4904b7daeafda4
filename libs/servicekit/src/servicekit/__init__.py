"""What both services need that is not about orders or invoices."""

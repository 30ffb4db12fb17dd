"""One prepaid ledger: accounts, leases that hold money for work, and a journal that only grows."""

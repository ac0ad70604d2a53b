"""Delta and Iceberg tables: how they are loaded, and how the ledger is settled in them."""

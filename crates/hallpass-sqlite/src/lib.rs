//! Hallpass tokens, accounts and audit trail in an SQLite file.

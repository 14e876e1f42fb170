//! `hallpass migrate`

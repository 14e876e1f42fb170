//! The hallpass service.

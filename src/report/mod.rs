//! Flow 1, second half.

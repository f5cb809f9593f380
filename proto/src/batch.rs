//! Record-batch codec.

//! Behaviours by their ids.

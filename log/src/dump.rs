//! Single files, for the command line.

//! The percent grammar of `-f`, in the tradition of kcat and rpk: one little language for printing records
//! and for cutting input into records.
//!
//! ```text
//! %v value   %k key   %t topic   %p partition   %o offset   %T timestamp (ms)   %h headers   %% percent
//! %V %K      their lengths; -1 for null         %H number of headers            \n \r \t \0 \xHH \\
//! ```
//!
//! In braces behind a verb stands how it is coded: `%v{hex}`, `%V{big32}`, `%T{iso}`, `%h{%k=%v;}`.

mod grammar;
mod print;
mod read;

pub use grammar::{HeaderRef, unescape};
pub use print::{Printed, RecordFormat};
pub use read::{Input, InputFormat};

//! Random clusters against a bound that is computed by other means: a flow that no cycle makes more even or cheaper says
//! how even loads can be, and how many replicas have to be copied at least.

mod creation;
mod cycles;
mod levelling;
mod plans;
mod random;

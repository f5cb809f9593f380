//! What can be done to whom.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// The actor loses its memory; a new one comes back from disk
    Kill,
    /// The same by a panic
    Panic,
    /// The actor handles no message for a while
    Pause,
    /// The actor blocks its thread for a while, and everyone on it
    Stall,
    /// The actor answers nobody for a while
    DropReplies,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Panic => "panic",
            Fault::Pause => "pause",
            Fault::Stall => "stall",
            Fault::DropReplies => "drop-replies",
        }
    }
}

/// An actor that matches.
pub struct Target {
    pub address: String,
    pub partition: bool,
}

impl Target {
    /// Every actor can die; partitions alone can be made to misbehave.
    pub fn can_suffer(&self, fault: Fault) -> bool {
        self.partition || matches!(fault, Fault::Kill | Fault::Panic)
    }
}

//! Which reassignments a command is about: those of a plan, or all.

use crate::failure::Failure;
use crate::reassignment::Plan;
use clap::Args;

#[derive(Debug, Args)]
pub struct Which {
    /// The plan that was executed; `-` reads it from standard input
    #[arg(value_name = "PLAN", required_unless_present = "all", conflicts_with = "all")]
    plan: Option<String>,
    /// All that is under way, whoever began it
    #[arg(long)]
    all: bool,
}

impl Which {
    /// `None`: all.
    ///
    /// # Errors
    /// As of [`Plan::read`].
    pub fn plan(&self) -> Result<Option<Plan>, Failure> {
        self.plan.as_deref().map(Plan::read).transpose()
    }
}

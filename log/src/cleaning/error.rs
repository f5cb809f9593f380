//! Why a pass ends without a result. Nothing has changed then, and what it wrote is gone.

use crate::LogError;
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CleaningError {
    /// [`super::Pace`] has ended it.
    #[error("the cleaning was ended")]
    Aborted,
    /// The log was cut or shortened meanwhile: a new pass may begin.
    #[error("the log was changed while it was cleaned")]
    Overtaken,
    /// A segment does not hold what was written to it. Until that is mended no pass will succeed.
    #[error("{path} cannot be cleaned, it is damaged at byte {position}: {cause}", path = path.display())]
    Damaged { path: PathBuf, position: u64, cause: String },
    /// The disk refuses.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl CleaningError {
    /// Whether trying again later may help: [`LogError::is_temporary`], or nothing was wrong.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Aborted | Self::Overtaken => true,
            Self::Damaged { .. } => false,
            Self::Log(error) => error.is_temporary(),
        }
    }
}

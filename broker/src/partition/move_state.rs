//! How the moves of a partition's log between the directories of its node stand: kept by its actor.

use super::cleaning_gate::CleaningTurn;

#[derive(Default)]
pub struct MoveState {
    /// The log is being copied; as long as it is, nobody cleans it.
    pub turn: Option<CleaningTurn>,
    /// How often another directory's has taken its place since the actor was built.
    pub count: u32,
}

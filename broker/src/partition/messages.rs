//! What a partition's actor is asked and told.

mod cleaning;
mod client;
mod controller;
mod following;
mod leading;
mod moving;
mod soundness;
mod transactions;
mod upkeep;

pub use cleaning::{BeginCleaning, FinishCleaning, FinishedCleaning, LogLook, LookAtLog};
pub use client::{
    Append, Appended, Confirm, DeleteRecords, Describe, Description, FindOffset, Finding,
    FoundOffset, Isolation, MAILBOX_CAPACITY, OffsetQuery, QUEUE_BYTES, Read, ReadAnswer,
};
pub use controller::{IsrAnswer, LossKnown};
pub use following::{Credit, CreditSource, FromLeader, LeaderSays, Slice};
pub use leading::{CloseFollower, FollowerReport, OpenFollower, PushOn};
pub use moving::{BeginMove, Copied, EndMove, FinishMove, Original, Piece, ReadForMove};
pub use soundness::{BeginScrub, GiveUpDamage, GivenUp, MendFiles, Suspect, Suspicion};
pub use transactions::{AbortedTransaction, DescribeProducers, Verified, WriteMarker};
pub use upkeep::{
    Checkpoint, DirectoryFailed, EnforceRetention, Flushed, Rest, Retire, Retirement, Update,
};

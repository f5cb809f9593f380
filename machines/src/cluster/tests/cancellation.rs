//! Reassignments that are cancelled (R34): who was added stays until enough of those from before are in sync.

use super::partitions::{epoch, fence, key, nodes, partition, unfence};
use super::reassignment::{ask, join, one, placed, reassign};
use super::*;

const TWO: &[(&str, &str)] = &[("min.insync.replicas", "2")];

/// On its way from 2 and 1 to 3 and 2, with 2 away: in sync are 1, which leads, and 3.
fn half_moved() -> ClusterImage {
    let (mut image, _) = placed(&[&[2, 1]], TWO);
    reassign(&mut image, Some(&[3, 2])).unwrap();
    fence(&mut image, 2);
    let moved = join(&mut image, &[1, 3]);
    assert_eq!((moved.leader, &moved.isr), (Some(NodeId(1)), &nodes(&[1, 3])));
    image
}

fn register_empty(image: &mut ClusterImage, node: i32) {
    let metadata_version = METADATA_VERSION;
    let request = RegisterBroker { metadata_version, ..registration(node, 9) };
    let arrival = Arrival { holds_nothing: true, ..Arrival::default() };
    let decided = image.register_broker(&request, arrival);
    apply(image, decided);
}

#[test]
fn a_cancelled_move_keeps_who_was_added_until_enough_of_the_others_are_in_sync() {
    let mut image = half_moved();
    let waits = reassign(&mut image, None).unwrap();
    assert_eq!((&waits.replicas, &waits.removing), (&nodes(&[2, 1, 3]), &nodes(&[3])));
    assert_eq!((&waits.adding, &waits.original), (&vec![], &nodes(&[2, 1])));
    assert_eq!((waits.leader, &waits.isr), (Some(NodeId(1)), &nodes(&[1, 3])));
    assert_eq!(waits.cancelled_until_in_sync(2), Some(2));
    unfence(&mut image, 2);
    let done = join(&mut image, &[1, 3, 2]);
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[2, 1]), &nodes(&[1, 2])));
    assert_eq!((done.leader, done.is_reassigning()), (Some(NodeId(1)), false));
    assert_eq!(done.leader_epoch.0, waits.leader_epoch.0 + 1, "3 is not to be taken for a replica");
}

/// Its disk was replaced before it was cancelled, and nobody knew.
#[test]
fn the_last_copy_is_not_dropped_with_a_cancelled_move() {
    let mut image = half_moved();
    reassign(&mut image, None).unwrap();
    register_empty(&mut image, 1);
    let after = partition(&image, 0);
    assert_eq!((after.leader, &after.isr), (Some(NodeId(3)), &nodes(&[3])));
    unfence(&mut image, 1);
    unfence(&mut image, 2);
    assert!(join(&mut image, &[3, 1]).is_cancelled(), "one of two is not enough");
    let done = join(&mut image, &[3, 1, 2]);
    assert_eq!((&done.replicas, done.leader), (&nodes(&[2, 1]), Some(NodeId(2))));
}

#[test]
fn cancelled_again_it_waits_as_before() {
    let mut image = half_moved();
    let waits = reassign(&mut image, None).unwrap();
    let before = image.next_offset();
    assert_eq!(reassign(&mut image, None).unwrap(), waits);
    assert_eq!(image.next_offset(), before, "the same again changes nothing");
}

#[test]
fn a_new_target_takes_the_place_of_a_cancellation_that_waits() {
    let mut image = half_moved();
    reassign(&mut image, None).unwrap();
    let other = reassign(&mut image, Some(&[0, 1])).unwrap();
    assert_eq!((&other.replicas, other.is_cancelled()), (&nodes(&[0, 1, 2, 3]), false));
    assert_eq!((&other.adding, &other.removing), (&nodes(&[0]), &nodes(&[2, 3])));
    let done = join(&mut image, &[1, 3, 0]);
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[0, 1]), &nodes(&[1, 0])));
    // or the one that was cancelled, which is complete once 2 is back
    let mut image = half_moved();
    reassign(&mut image, None).unwrap();
    let again = reassign(&mut image, Some(&[3, 2])).unwrap();
    assert_eq!((&again.replicas, &again.adding), (&nodes(&[3, 2, 1]), &nodes(&[3])));
}

#[test]
fn a_target_as_it_was_before_is_a_cancellation() {
    let (mut named, mut cancelled) = (half_moved(), half_moved());
    let waits = reassign(&mut named, Some(&[2, 1])).unwrap();
    assert_eq!(waits, reassign(&mut cancelled, None).unwrap());
    // in another order it is a move, which waits for all
    let other = reassign(&mut named, Some(&[1, 2])).unwrap();
    assert_eq!((other.is_cancelled(), &other.removing), (false, &nodes(&[3])));
}

#[test]
fn a_cancellation_is_over_once_fewer_in_sync_replicas_suffice() {
    let mut image = half_moved();
    reassign(&mut image, None).unwrap();
    let set = [("min.insync.replicas".to_owned(), "1".to_owned())].into();
    let request = UpdateTopic { name: "orders".into(), set, ..UpdateTopic::default() };
    let decided = image.update_topic(&request);
    apply(&mut image, decided);
    let done = partition(&image, 0);
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[2, 1]), &nodes(&[1])));
}

/// No more can be asked for than there are to be.
#[test]
fn a_cancelled_growth_needs_no_more_in_sync_than_there_were_replicas() {
    let (mut image, _) = placed(&[&[0]], TWO);
    reassign(&mut image, Some(&[0, 1, 2])).unwrap();
    join(&mut image, &[0, 1]);
    let done = reassign(&mut image, None).unwrap();
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[0]), &nodes(&[0])));
}

/// Who has all that is committed need not be in sync just now.
#[test]
fn a_move_may_be_cancelled_while_one_from_before_is_eligible() {
    let (mut image, _) = placed(&[&[0, 1]], TWO);
    reassign(&mut image, Some(&[2, 3])).unwrap();
    join(&mut image, &[0, 1, 2]);
    fence(&mut image, 1);
    fence(&mut image, 0);
    let alone = partition(&image, 0);
    assert_eq!((alone.leader, &alone.elr), (Some(NodeId(2)), &nodes(&[0])));
    let waits = reassign(&mut image, None).unwrap();
    assert_eq!((waits.leader, &waits.replicas), (Some(NodeId(2)), &nodes(&[0, 1, 2])));
    fence(&mut image, 2);
    unfence(&mut image, 0);
    let led = partition(&image, 0);
    assert_eq!((led.leader, led.recovering, led.is_cancelled()), (Some(NodeId(0)), false, true));
    unfence(&mut image, 1);
    let done = join(&mut image, &[0, 1]);
    assert_eq!((&done.replicas, done.is_reassigning()), (&nodes(&[0, 1]), false));
}

/// An added replica that leads does so until it is dropped.
#[test]
fn who_is_kept_may_lead_and_others_are_preferred() {
    let mut image = half_moved();
    reassign(&mut image, None).unwrap();
    fence(&mut image, 1);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(3)));
    let preferred = image.elect_leader(&key(0), Election::Preferred).unwrap_err();
    assert_eq!(preferred, ClusterError::PreferredNotAvailable { preferred: NodeId(2) });
    fence(&mut image, 3);
    let (code, _) = ask(&mut image, vec![one(0, Some(&[0, 9]))]).remove(0).unwrap_err();
    assert_eq!(code, ErrorCode::InvalidReplicaAssignment);
    unfence(&mut image, 3);
    assert_eq!(partition(&image, 0).leader, Some(NodeId(3)));
    assert!(image.known_broker(NodeId(3), epoch(&image, 3)).is_ok());
}

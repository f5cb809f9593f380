//! Two ends of a connection of which one is ill.

use super::*;
use std::collections::BTreeSet;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const BOTH: Directions = Directions { to: true, from: true };
/// So long nothing must come that is not to come at all.
const SILENCE: Duration = Duration::from_millis(100);

async fn pair(faults: &Arc<NetworkFaults>) -> (FaultyStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (FaultyStream::new(ours.unwrap(), NodeId(2), Arc::clone(faults)), accepted.unwrap().0)
}

fn only(node: i32) -> BTreeSet<NodeId> {
    BTreeSet::from([NodeId(node)])
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let read = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(read);
    bytes
}

#[tokio::test]
async fn what_is_cut_off_is_held_and_arrives_whole_when_that_is_over() {
    let faults = Arc::<NetworkFaults>::default();
    let (mut ours, mut theirs) = pair(&faults).await;
    let cut = faults.begin(only(2), BOTH, Ailment::Cut);
    theirs.write_all(b"to us").await.unwrap();
    timeout(SILENCE, ours.read_u8()).await.unwrap_err();
    timeout(SILENCE, ours.write_all(b"lost")).await.unwrap_err();
    timeout(SILENCE, theirs.read_u8()).await.unwrap_err();
    assert!(cut.hits() >= 2);
    let reading = tokio::spawn(async move {
        let read = read(&mut ours).await;
        (ours, read)
    });
    tokio::task::yield_now().await;
    drop(cut);
    let (mut ours, came) = reading.await.unwrap();
    assert_eq!(came, b"to us");
    ours.write_all(b"to them").await.unwrap();
    assert_eq!(read(&mut theirs).await, b"to them");
}

#[tokio::test]
async fn a_cut_has_a_direction_and_is_of_some_nodes() {
    let faults = Arc::<NetworkFaults>::default();
    let (mut ours, mut theirs) = pair(&faults).await;
    let mute = faults.begin(only(2), Directions { to: true, from: false }, Ailment::Cut);
    let other = faults.begin(only(3), BOTH, Ailment::Cut);
    theirs.write_all(b"heard").await.unwrap();
    assert_eq!(read(&mut ours).await, b"heard");
    timeout(SILENCE, ours.write_all(b"unheard")).await.unwrap_err();
    // Nobody learns that this end has given up.
    drop(ours);
    timeout(SILENCE, theirs.read_u8()).await.unwrap_err();
    drop(mute);
    timeout(SILENCE, theirs.read_u8()).await.unwrap_err();
    drop(other);
    theirs.read_u8().await.unwrap_err();
}

#[tokio::test]
async fn what_is_slow_takes_as_long_each_way_and_keeps_its_order() {
    let faults = Arc::<NetworkFaults>::default();
    let (mut ours, mut theirs) = pair(&faults).await;
    let delay = Duration::from_millis(40);
    let jitter = Duration::from_millis(20);
    let slow = faults.begin(BTreeSet::new(), BOTH, Ailment::Slow { delay, jitter });
    let begun = Instant::now();
    let echo = tokio::spawn(async move {
        let mut bytes = vec![0; 200_000];
        theirs.read_exact(&mut bytes).await.unwrap();
        theirs.write_all(&bytes).await.unwrap();
        bytes
    });
    let sent: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
    for piece in sent.chunks(999) {
        ours.write_all(piece).await.unwrap();
    }
    ours.flush().await.unwrap();
    let mut came = vec![0; sent.len()];
    ours.read_exact(&mut came).await.unwrap();
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    assert!(echo.await.unwrap() == sent && came == sent);
    assert!(slow.hits() > 2);
    drop(slow);
    // The end is seen too.
    assert_eq!(read(&mut ours).await, b"");
}

#[tokio::test]
async fn no_connection_is_made_across_a_cut_and_none_later_than_its_patience() {
    let faults = Arc::<NetworkFaults>::default();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let cut = faults.begin(only(2), Directions { to: false, from: true }, Ailment::Cut);
    let begins = connect(Arc::clone(&faults), NodeId(2), uri.clone());
    timeout(SILENCE, begins).await.map(drop).unwrap_err();
    let endpoint = Endpoint::from(uri.clone()).connect_timeout(Duration::from_millis(10));
    let network = Network::with_faults(&faults);
    network.connect(NodeId(2), &endpoint).await.map(drop).unwrap_err();
    let waits = tokio::spawn(connect(Arc::clone(&faults), NodeId(2), uri));
    drop(cut);
    waits.await.unwrap().unwrap();
}

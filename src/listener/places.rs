//! The places of a listener: how many connections it keeps at a time, and which one leaves when there are too many.
//!
//! A connection is a stranger's until a request on it has proven who sends it. A newcomer never waits behind strangers: it
//! takes the place of the oldest stranger, of the peer that has the most of them. A share of the places is for connections
//! that are proven, which no stranger can take. Behind a proxy all come from one peer, and age alone decides.
//!
//! It knows nothing of HTTP. Never holds its lock over a wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Places of a listener where there are file descriptors enough. Far more than any CRM opens.
const PLACES_MAX: u64 = 256;
/// With fewer a single busy sender would be in its own way.
const PLACES_MIN: u64 = 8;
/// File descriptors that no connection from outside takes: the databases, what is sent to Reteno and read from CRMs, files
/// and taps.
const DESCRIPTORS_KEPT: u64 = 64;
/// Of so many places one is for proven connections alone.
const PROVEN_SHARE: u64 = 4;
/// Of so many strangers one leaves where newcomers find no place.
const LEAVING_SHARE: u64 = 12;
/// A body of a stranger that has no more bytes is not counted: as many as there are places are little.
pub(super) const SMALL_BYTES: usize = 64 << 10;
/// Bytes that the other bodies of strangers may have together: a few of the largest.
const STRANGE_BYTES_MAX: usize = 16 << 20;

/// Where all strangers are looked at at the moment, so soon it is looked again whether one can leave.
const ROOM_LOOKED_FOR: Duration = Duration::from_millis(50);

/// The places of one listener.
pub(super) struct Places {
    strange: Arc<Semaphore>,
    proven: Arc<Semaphore>,
    /// So many strangers leave together, so that newcomers do not wait for one after the other.
    leaving: u64,
    strange_bytes_max: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// The next number: of a connection, of a proof, of a body.
    next: u64,
    connections: BTreeMap<u64, Connection>,
    /// Strangers that may be told to leave, by peer: neither those that nobody has looked at yet, nor those whose request is
    /// whole and being looked at.
    strangers: BTreeMap<IpAddr, BTreeSet<u64>>,
    /// Proven connections, by when they last proved themselves.
    proven: BTreeMap<u64, u64>,
    bodies: BTreeMap<u64, Body>,
    strange_bytes: usize,
}

struct Connection {
    peer: IpAddr,
    /// Of the strangers' places, or of the others: this is what divides them.
    permit: OwnedSemaphorePermit,
    /// The number of its last proof.
    proof: Option<u64>,
    /// Its request is whole, and being looked at.
    is_heard: bool,
    leave: CancellationToken,
}

struct Body {
    connection: u64,
    bytes: usize,
    is_whole: bool,
}

impl Places {
    /// As many as this process has file descriptors for.
    pub(super) fn of_this_process() -> Arc<Self> {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let places = (descriptors.saturating_sub(DESCRIPTORS_KEPT) / 2).clamp(PLACES_MIN, PLACES_MAX);
        let proven = places / PROVEN_SHARE;
        Self::new(places - proven, proven, STRANGE_BYTES_MAX)
    }

    fn new(strange: u64, proven: u64, strange_bytes_max: usize) -> Arc<Self> {
        let semaphore = |places| Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS)));
        let leaving = (strange / LEAVING_SHARE).max(1);
        let (strange, proven) = (semaphore(strange), semaphore(proven));
        Arc::new(Self { strange, proven, leaving, strange_bytes_max, ledger: Mutex::default() })
    }

    /// A place for a new connection. Where strangers have all of theirs one of them is told to leave, and is waited for.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Place {
        let mut free = Arc::clone(&self.strange).try_acquire_owned().ok();
        let permit = loop {
            if let Some(permit) = free {
                break permit;
            }
            // it may be that nobody could be told, and can be now
            for _ in 0..self.leaving {
                self.make_room();
            }
            let freed = tokio::time::timeout(ROOM_LOOKED_FOR, Arc::clone(&self.strange).acquire_owned()).await;
            free = freed.ok().map(|permit| permit.expect("nobody closes it"));
        };
        let (peer, leave) = (network_of(peer), CancellationToken::new());
        let mut ledger = self.ledger();
        let id = ledger.number();
        ledger.connections.insert(id, Connection { peer, permit, proof: None, is_heard: false, leave: leave.clone() });
        Place { standing: Standing(Some((Arc::clone(self), id))), leave }
    }

    /// Tells a stranger to leave.
    pub(super) fn make_room(&self) {
        let mut ledger = self.ledger();
        // of peers with equally many the one whose oldest connection is the oldest: else its address decided
        let by_most = |ids: &&BTreeSet<u64>| (ids.len(), Reverse(ids.first().copied()));
        let most = ledger.strangers.values().max_by_key(by_most).and_then(BTreeSet::first).copied();
        if let Some(id) = most {
            ledger.send_away(id);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn send_away(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        connection.leave.cancel();
        let peer = connection.peer;
        self.forget_stranger(peer, id);
    }

    fn forget_stranger(&mut self, peer: IpAddr, id: u64) {
        if let Some(ids) = self.strangers.get_mut(&peer) {
            ids.remove(&id);
            if ids.is_empty() {
                self.strangers.remove(&peer);
            }
        }
    }

    /// Moves a connection to the proven ones; where those have no place left, the one among them that proved itself the
    /// longest ago becomes a stranger.
    fn prove(&mut self, id: u64, places: &Arc<Semaphore>) {
        let proof = self.number();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let peer = connection.peer;
        if let Some(earlier) = connection.proof.replace(proof) {
            self.proven.remove(&earlier);
        } else if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            connection.permit = permit;
            self.forget_stranger(peer, id);
        } else {
            connection.proof = None;
            let Some((_, other)) = self.proven.pop_first() else { return };
            self.exchange(id, other);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.proof = Some(proof);
            }
            self.forget_stranger(peer, id);
        }
        self.proven.insert(proof, id);
    }

    /// The other becomes a stranger in the place of this one.
    fn exchange(&mut self, id: u64, other: u64) {
        let Some(mut lost) = self.connections.remove(&other) else { return };
        if let Some(connection) = self.connections.get_mut(&id) {
            std::mem::swap(&mut connection.permit, &mut lost.permit);
        }
        lost.proof = None;
        self.connections.insert(other, lost);
        self.expose(other);
    }

    /// A stranger that nobody is looking at may be told to leave.
    fn expose(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        if !connection.is_heard && connection.proof.is_none() {
            self.strangers.entry(connection.peer).or_default().insert(id);
        }
    }

    fn hear(&mut self, id: u64, is_heard: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.is_heard = is_heard;
        let peer = connection.peer;
        if is_heard {
            self.forget_stranger(peer, id);
        } else {
            self.expose(id);
        }
    }

    fn end(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.forget_stranger(connection.peer, id);
        if let Some(proof) = connection.proof {
            self.proven.remove(&proof);
        }
    }

    /// Counts a body that has grown; false where there is no room for it. Whoever holds the most gives way.
    fn grow(&mut self, id: u64, bytes: usize, bytes_max: usize) -> bool {
        let Some(body) = self.bodies.get_mut(&id) else { return false };
        let is_stranger = self.connections.get(&body.connection).is_none_or(|connection| connection.proof.is_none());
        let counted = if is_stranger && bytes > SMALL_BYTES { bytes } else { 0 };
        self.strange_bytes = self.strange_bytes - body.bytes + counted;
        body.bytes = counted;
        while self.strange_bytes > bytes_max {
            let growing = self.bodies.iter().filter(|(_, body)| !body.is_whole);
            let Some((&most, body)) = growing.max_by_key(|(_, body)| body.bytes) else { return false };
            let connection = body.connection;
            self.drop_body(most);
            if most == id {
                return false;
            }
            self.send_away(connection);
        }
        true
    }

    fn drop_body(&mut self, id: u64) {
        if let Some(body) = self.bodies.remove(&id) {
            self.strange_bytes -= body.bytes;
        }
    }
}

/// Peers that one person can have as many of as they like are one.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// A place that a connection has, until it is dropped.
pub(super) struct Place {
    standing: Standing,
    leave: CancellationToken,
}

impl Place {
    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// What it brought at once has been looked at: from now on it may be told to leave.
    pub(super) fn expose(&self) {
        if let Some((places, id)) = &self.standing.0 {
            places.ledger().expose(*id);
        }
    }

    /// Cancelled when another needs the place more.
    pub(super) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, id)) = &self.standing.0 {
            places.ledger().end(*id);
        }
    }
}

/// What the listener thinks of the connection that a request came on.
#[derive(Clone, Default)]
pub struct Standing(Option<(Arc<Places>, u64)>);

impl Standing {
    /// A request on it has proven who sends it: it does not give way to strangers any more.
    pub fn prove(&self) {
        if let Some((places, id)) = &self.0 {
            places.ledger().prove(*id, &places.proven);
        }
    }

    /// Its request is whole and looked at: until the answer it is not told to leave.
    pub(super) fn hear(&self) -> Heard {
        if let Some((places, id)) = &self.0 {
            places.ledger().hear(*id, true);
        }
        Heard(self.clone())
    }

    /// Room for a body.
    pub(super) fn take_in(&self) -> Room {
        let body = self.0.as_ref().map(|(places, connection)| {
            let mut ledger = places.ledger();
            let id = ledger.number();
            ledger.bodies.insert(id, Body { connection: *connection, bytes: 0, is_whole: false });
            (Arc::clone(places), id)
        });
        Room(body)
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Standing")
    }
}

/// A request is looked at, until this is dropped.
pub(super) struct Heard(Standing);

impl Drop for Heard {
    fn drop(&mut self) {
        if let Some((places, id)) = &self.0.0 {
            places.ledger().hear(*id, false);
        }
    }
}

/// The room that a body takes, until it is dropped.
pub(super) struct Room(Option<(Arc<Places>, u64)>);

impl Room {
    /// The body has so many bytes now; false where there is no room for them.
    pub(super) fn grow(&self, bytes: usize) -> bool {
        self.0.as_ref().is_none_or(|(places, id)| places.ledger().grow(*id, bytes, places.strange_bytes_max))
    }

    /// It is whole: from now on only its end makes room.
    pub(super) fn finish(&self) {
        if let Some((places, id)) = &self.0
            && let Some(body) = places.ledger().bodies.get_mut(id)
        {
            body.is_whole = true;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((places, id)) = &self.0 {
            places.ledger().drop_body(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn is_away(place: &Place) -> bool {
        place.leave().is_cancelled()
    }

    async fn all(places: &Arc<Places>, peers: &[IpAddr]) -> Vec<Place> {
        let mut all = Vec::new();
        for peer in peers {
            all.push(exposed(places.enter(*peer).await));
        }
        all
    }

    /// Enters when one is told to leave, and that one leaves.
    async fn one_more(places: &Arc<Places>, held: &mut Vec<Place>, peer: IpAddr) {
        let entering = places.enter(peer);
        tokio::pin!(entering);
        assert!(futures_util::poll!(&mut entering).is_pending());
        let before = held.len();
        held.retain(|place| !is_away(place));
        assert_eq!(held.len(), before - 1, "one leaves");
        held.push(exposed(entering.await));
    }

    fn exposed(place: Place) -> Place {
        place.expose();
        place
    }

    #[tokio::test]
    async fn the_oldest_stranger_of_the_peer_with_the_most_gives_way() {
        let places = Places::new(4, 1, 0);
        let mut held = all(&places, &[NEAR, FAR, FAR, FAR]).await;
        let near = held.remove(0);
        let (second, third) = (held[1].standing().0.unwrap().1, held[2].standing().0.unwrap().1);
        one_more(&places, &mut held, FAR).await;
        assert_eq!(held[0].standing().0.unwrap().1, second);
        one_more(&places, &mut held, FAR).await;
        assert_eq!(held[0].standing().0.unwrap().1, third);
        assert!(!is_away(&near), "who comes alone stays");
    }

    /// A sender with a high address does not give way to many strangers with low ones.
    #[tokio::test]
    async fn among_peers_with_equally_many_the_oldest_gives_way_whatever_its_address() {
        let peers: Vec<IpAddr> = [9, 1, 5, 7].map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))).to_vec();
        let places = Places::new(3, 1, 0);
        let mut held = all(&places, &peers[..3]).await;
        let numbers: Vec<u64> = held.iter().map(|place| place.standing().0.unwrap().1).collect();
        one_more(&places, &mut held, peers[3]).await;
        one_more(&places, &mut held, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 250))).await;
        assert_eq!(held[0].standing().0.unwrap().1, numbers[2], "the first two have left");
    }

    #[tokio::test]
    async fn a_proven_connection_stays_and_gives_its_place_among_strangers_free() {
        let places = Places::new(2, 1, 0);
        let mut held = all(&places, &[FAR, FAR]).await;
        let good = held.remove(0);
        good.standing().prove();
        // the place that it had is free: nobody has to leave
        held.push(exposed(places.enter(FAR).await));
        assert!(!held.iter().any(is_away));
        for _ in 0..5 {
            one_more(&places, &mut held, FAR).await;
        }
        assert!(!is_away(&good));
        // the last to prove itself is the one that stays
        let other = held.remove(0);
        other.standing().prove();
        held.insert(0, good);
        for _ in 0..5 {
            one_more(&places, &mut held, FAR).await;
        }
        assert!(!is_away(&other));
        drop((held, other));
        assert_eq!((places.strange.available_permits(), places.proven.available_permits()), (2, 1));
        let ledger = places.ledger();
        assert!(ledger.connections.is_empty() && ledger.strangers.is_empty() && ledger.proven.is_empty());
    }

    #[tokio::test]
    async fn large_bodies_of_strangers_share_a_room_and_the_largest_gives_way() {
        let places = Places::new(4, 2, 5 * SMALL_BYTES);
        let held = all(&places, &[FAR, FAR, FAR, FAR]).await;
        let rooms: Vec<Room> = held.iter().map(|place| place.standing().take_in()).collect();
        assert!(rooms[0].grow(3 * SMALL_BYTES) && rooms[1].grow(2 * SMALL_BYTES) && !is_away(&held[0]));
        // small ones are not counted, and proven ones neither
        assert!(rooms[2].grow(SMALL_BYTES));
        held[3].standing().prove();
        assert!(rooms[3].grow(9 * SMALL_BYTES));
        assert!(!held.iter().any(is_away));
        assert!(rooms[2].grow(2 * SMALL_BYTES));
        assert!(is_away(&held[0]) && !is_away(&held[1]) && !is_away(&held[2]));
        // a whole one is waited for, and who comes to it goes without
        rooms[1].finish();
        rooms[2].finish();
        let room = held[2].standing().take_in();
        assert!(!room.grow(2 * SMALL_BYTES));
        drop(rooms);
        drop(room);
        assert_eq!(places.ledger().strange_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_looked_at_stays_until_the_answer() {
        let places = Places::new(2, 1, 0);
        let mut held = all(&places, &[FAR, FAR]).await;
        let heard = held[0].standing().hear();
        one_more(&places, &mut held, FAR).await;
        assert!(held[0].standing().0.unwrap().1 == 1, "the second one left");
        let also = held[1].standing().hear();
        let entering = places.enter(FAR);
        tokio::pin!(entering);
        assert!(futures_util::poll!(&mut entering).is_pending());
        assert!(!held.iter().any(is_away));
        drop(heard);
        tokio::time::advance(ROOM_LOOKED_FOR).await;
        assert!(futures_util::poll!(&mut entering).is_pending());
        assert!(is_away(&held[0]));
        drop((held, also));
        drop(entering.await);
        assert_eq!(places.strange.available_permits(), 2);
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), FAR);
        assert_ne!(FAR, NEAR);
    }
}

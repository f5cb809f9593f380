//! The handler of SIGBUS, and the list of mappings by which it knows a page to be one of ours. See `mapping`.
//!
//! The list only grows, in pieces, and its entries are used again: the handler goes through it without a lock.

use std::mem;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

/// No address is this one: of an entry that nobody uses.
const NOBODY: usize = usize::MAX;
const PIECE: usize = 256;

/// The addresses of one mapping.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Slot {
    const fn free() -> Slot {
        Slot { start: AtomicUsize::new(NOBODY), end: AtomicUsize::new(0) }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        let end = self.end.load(Ordering::SeqCst);
        // an entry that was given to another mapping in between counts for neither
        start <= address && address < end && self.start.load(Ordering::SeqCst) == start
    }
}

struct Piece {
    slots: [Slot; PIECE],
    next: AtomicPtr<Piece>,
}

impl Piece {
    const fn empty() -> Piece {
        Piece { slots: [const { Slot::free() }; PIECE], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Piece> {
        // SAFETY: it is null, or of a piece that was leaked before it was put there.
        unsafe { self.next.load(Ordering::SeqCst).as_ref() }
    }
}

static FIRST: Piece = Piece::empty();
/// Entries that nobody uses; `None` until the first piece's are among them.
static FREE: Mutex<Option<Vec<&'static Slot>>> = Mutex::new(None);
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE: OnceLock<usize> = OnceLock::new();

/// One mapping on the list.
pub(super) struct Entry(&'static Slot);

impl Entry {
    pub(super) fn close(&self) {
        self.0.start.store(NOBODY, Ordering::SeqCst);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.get_or_insert_default().push(self.0);
    }
}

/// Puts a mapping on the list.
pub(super) fn watch(addresses: Range<usize>) -> Entry {
    let slot = take_free();
    slot.end.store(addresses.end, Ordering::SeqCst);
    slot.start.store(addresses.start, Ordering::SeqCst);
    Entry(slot)
}

fn take_free() -> &'static Slot {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let is_first = free.is_none();
    let free = free.get_or_insert_default();
    if is_first {
        free.extend(&FIRST.slots);
    }
    if let Some(slot) = free.pop() {
        return slot;
    }
    let piece: &'static Piece = Box::leak(Box::new(Piece::empty()));
    let mut last = &FIRST;
    while let Some(next) = last.next() {
        last = next;
    }
    last.next.store(ptr::from_ref(piece).cast_mut(), Ordering::SeqCst);
    free.extend(&piece.slots);
    free.pop().expect("a new piece has entries")
}

/// Once for the process; whoever handled the signal before is remembered.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        // before the handler, which may come at once
        let _only_once = PAGE.set(page);
        // SAFETY: a zeroed sigaction is one without flags and mask; both pointers are to live ones of their own, and
        // the handler has the form that SA_SIGINFO asks for.
        unsafe {
            let mut before: libc::sigaction = mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) != 0 {
                return;
            }
            let _only_once = BEFORE.set(before);
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    });
}

extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel hands over what the signal is about, and of this one the address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code == libc::BUS_ADRERR && is_watched(address) && put_zeros(address) {
        return;
    }
    pass_on(signal, info, context);
}

fn is_watched(address: usize) -> bool {
    let mut piece = Some(&FIRST);
    while let Some(Piece { slots, .. }) = piece {
        if slots.iter().any(|slot| slot.holds(address)) {
            return true;
        }
        piece = piece.and_then(Piece::next);
    }
    false
}

/// In place of the page with this address; whoever touched it goes on.
fn put_zeros(address: usize) -> bool {
    let Some(page) = PAGE.get() else { return false };
    let start = (address & !(page - 1)) as *mut libc::c_void;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page belongs to a mapping of ours, which lives, as the thread that was stopped here holds a slice of
    // it; and it has no content that could be lost. `mmap` is a bare system call, but for errno, which is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let mapped = libc::mmap(start, *page, libc::PROT_READ, flags, -1, 0);
        *errno = before;
        mapped == start
    }
}

/// To whoever was there before. Without anybody the signal comes again, and the process ends by it.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    type Plain = extern "C" fn(libc::c_int);
    let before = BEFORE.get().filter(|before| {
        before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN
    });
    // SAFETY: what was registered has the form that its flags say; a zeroed sigaction with SIG_DFL is the default.
    unsafe {
        match before {
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                mem::transmute::<usize, Full>(before.sa_sigaction)(signal, info, context);
            }
            Some(before) => mem::transmute::<usize, Plain>(before.sa_sigaction)(signal),
            None => {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

//! The switch by which a test puts a classic bug back into a machine, to show that it is found. Only tests and the feature
//! `planted-bugs` have it; in every other build it is nothing.

/// One of a machine's bugs, or none.
#[cfg(any(test, feature = "planted-bugs"))]
#[derive(Clone, Debug)]
pub(crate) struct Bugs<B>(Option<B>);

#[cfg(any(test, feature = "planted-bugs"))]
impl<B: PartialEq> Bugs<B> {
    pub(crate) const NONE: Bugs<B> = Bugs(None);

    pub(crate) fn with(bug: B) -> Bugs<B> {
        Bugs(Some(bug))
    }

    pub(crate) fn has(&self, bug: B) -> bool {
        self.0.as_ref() == Some(&bug)
    }
}

#[cfg(not(any(test, feature = "planted-bugs")))]
#[derive(Clone, Debug)]
pub(crate) struct Bugs<B>(std::marker::PhantomData<B>);

#[cfg(not(any(test, feature = "planted-bugs")))]
impl<B> Bugs<B> {
    pub(crate) const NONE: Bugs<B> = Bugs(std::marker::PhantomData);

    pub(crate) fn has(&self, _: B) -> bool {
        false
    }
}

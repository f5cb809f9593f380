//! Page size and token of a listing.

use troupe_proto::error::{Error, ErrorCode};

pub struct Page {
    size: usize,
    token: String,
}

impl Page {
    /// # Errors
    /// `INVALID_REQUEST`: the size is negative.
    pub fn new(size: i32, token: String) -> Result<Self, Error> {
        const DEFAULT: usize = 1_000;
        match usize::try_from(size) {
            Ok(0) => Ok(Self { size: DEFAULT, token }),
            Ok(size) => Ok(Self { size: size.min(10 * DEFAULT), token }),
            Err(_) => {
                let message = format!("page_size {size} is negative");
                Err(Error::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// One page of `items`, which are sorted by `key`, and the token of the next.
    pub fn cut<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let mut items =
            items.filter(|item| self.token.is_empty() || key(item).as_str() > &*self.token);
        let page: Vec<T> = items.by_ref().take(self.size).collect();
        let more = items.next().is_some();
        let token = page.last().filter(|_| more).map(&key).unwrap_or_default();
        (page, token)
    }
}

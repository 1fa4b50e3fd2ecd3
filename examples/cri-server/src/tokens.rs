//! Tokens that are valid once, and for a minute.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::node::random_hex;

/// The time for which a token is valid. Clients use it immediately. The value is that of
/// Kubernetes' own streaming server.
pub(crate) const VALID: Duration = Duration::from_secs(60);

/// The largest number of unused tokens, which bounds the memory. The value is that of
/// Kubernetes' own streaming server.
pub(crate) const AT_ONCE: usize = 1000;

/// The number of random bytes in a token, which make it too long to guess.
const BYTES: usize = 16;

/// A store of values that are waiting for their token to be used. Clones share the
/// store.
pub(crate) struct Tokens<T> {
    waiting: Arc<Mutex<HashMap<String, Waiting<T>>>>,
}

struct Waiting<T> {
    what: T,
    until: Instant,
}

impl<T> Tokens<T> {
    /// Issues a token for a value, or returns `None` if too many are already waiting.
    ///
    /// # Errors
    /// Fails if the system has no random bytes.
    pub(crate) fn issue(&self, what: T) -> io::Result<Option<String>> {
        let token = random_hex(BYTES)?;
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.len() >= AT_ONCE {
            waiting.retain(|_, waiting| now < waiting.until);
        }
        if waiting.len() >= AT_ONCE {
            return Ok(None);
        }
        let until = now + VALID;
        waiting.insert(token.clone(), Waiting { what, until });
        Ok(Some(token))
    }

    /// Returns the value of a token, if the token has neither been used nor expired.
    pub(crate) fn redeem(&self, token: &str) -> Option<T> {
        let waiting = self.lock().remove(token)?;
        (Instant::now() < waiting.until).then_some(waiting.what)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Tokens<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once() -> io::Result<()> {
        let tokens = Tokens::default();
        let [one, two] = [tokens.issue(1)?.unwrap(), tokens.issue(2)?.unwrap()];
        assert_eq!(one.len(), 2 * BYTES);
        assert_eq!(tokens.redeem(&two), Some(2));
        assert_eq!(tokens.redeem(&two), None);
        assert_eq!(tokens.redeem(&one), Some(1));
        assert_eq!(tokens.redeem(""), None);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_its_time() -> io::Result<()> {
        let tokens = Tokens::default();
        let [early, late] = [tokens.issue(1)?.unwrap(), tokens.issue(2)?.unwrap()];
        tokio::time::advance(VALID - Duration::from_millis(1)).await;
        assert_eq!(tokens.redeem(&early), Some(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tokens.redeem(&late), None);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_tokens_wait_than_there_is_room_for() -> io::Result<()> {
        let tokens = Tokens::default();
        for n in 0..AT_ONCE {
            assert!(tokens.issue(n)?.is_some(), "{n}");
        }
        assert_eq!(tokens.issue(0)?, None);
        // They were not fetched, and have expired.
        tokio::time::advance(VALID).await;
        assert!(tokens.issue(0)?.is_some());
        assert_eq!(tokens.lock().len(), 1);
        Ok(())
    }
}

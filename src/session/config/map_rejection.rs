use std::{error::Error as StdError, fmt, sync::Arc};

use crate::rejection::Rejection;

/// The function that turns an error of the service into the answer to the handshake.
#[derive(Clone)]
pub(crate) struct MapRejection(pub(crate) Arc<MapError>);

type MapError = dyn Fn(&(dyn StdError + 'static)) -> Rejection + Send + Sync;

impl Default for MapRejection {
    fn default() -> Self {
        Self(Arc::new(Rejection::from_error))
    }
}

impl fmt::Debug for MapRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRejection").finish_non_exhaustive()
    }
}

use std::error::Error;

/// A boxed error, like that of tower's middleware.
pub type BoxError = Box<dyn Error + Send + Sync>;

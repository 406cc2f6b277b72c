//! Numbers that a device will have, which its host goes on without.

use std::sync::{Arc, Mutex, PoisonError};

type Wait = Box<dyn FnOnce() -> [usize; 2] + Send>;

/// A place for two numbers on their way from the device. Operations return nothing but tensors, so that they are given such places.
#[derive(Clone, Default)]
pub struct Coming(Arc<Mutex<Option<Wait>>>);

impl Coming {
    /// Says how to wait for the numbers; what is to be waited for is queued already.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU keeps nobody waiting"))]
    pub(super) fn put(&self, wait: impl FnOnce() -> [usize; 2] + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(wait));
    }

    /// Waits for the numbers, if there are any to come.
    pub fn wait(self) -> Option<[usize; 2]> {
        let wait = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        wait.map(|wait| wait())
    }
}

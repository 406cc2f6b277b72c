//! What other tools read: [`neuronpedia`]'s upload and [`delphi`]'s cache.

pub mod delphi;
pub mod neuronpedia;

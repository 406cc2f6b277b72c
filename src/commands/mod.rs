//! One file a command.

pub mod capture;
pub mod circles;
pub mod cloud;
pub mod compare;
pub mod completions;
mod contexts;
pub mod convert;
pub mod demo;
pub mod doctor;
mod draft;
pub mod encode;
pub mod eval;
pub mod features;
pub mod gather;
pub mod geometry;
mod given;
pub mod groups;
pub mod inspect;
mod labelled;
pub mod latents;
pub mod new;
pub mod probe;
pub mod report;
pub mod saes;
pub mod sweep;
pub mod topology;
pub mod train;

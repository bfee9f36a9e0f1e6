//! The console, page by page.

pub mod audit;
pub mod checks;
pub mod denials;
pub mod jobs;
pub mod live;
pub mod new_runner;
pub mod no_team;
pub mod overview;
pub mod pages;
pub mod removal;
pub mod runner;
pub mod runners;
pub mod security;
pub mod teams;

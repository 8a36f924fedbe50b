//! Example driver.

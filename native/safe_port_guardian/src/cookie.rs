//! The environment variable by which the processes of a tree are known, however they are related.
//!
//! `SAFE_PORT_COOKIE=<vm>.<generation>.<port>`, with `.leave` at the end if descendants of the program may outlive it. A
//! program that is itself a VM with ports hands on what it has: its programs carry both cookies, with a comma between.

use std::fmt::Write as _;

use safe_port_wire::{Orphans, PortId, COOKIE_NAME};

const LEAVE: &str = "leave";

/// Which VM this guardian serves, and the how many-th of its guardians it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Different for every VM.
    pub vm: u64,
    /// Counts from 1.
    pub generation: u64,
}

/// What one cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// By which guardian it was given.
    pub realm: Realm,
    /// To the program of which port.
    pub id: PortId,
    /// What becomes of the program's descendants.
    pub orphans: Orphans,
}

impl Cookie {
    /// Its text.
    pub fn text(self) -> String {
        let mut text = format!("{:016x}.{}.{}", self.realm.vm, self.realm.generation, self.id.0);
        if self.orphans == Orphans::Leave {
            // Writing to a string does not fail.
            let _ = write!(text, ".{LEAVE}");
        }
        text
    }

    /// Reads what [`text`](Cookie::text) wrote.
    pub fn parse(text: &[u8]) -> Option<Cookie> {
        let mut parts = std::str::from_utf8(text).ok()?.split('.');
        let vm = u64::from_str_radix(parts.next()?, 16).ok()?;
        let generation = parts.next()?.parse().ok()?;
        let id = PortId(parts.next()?.parse().ok()?);
        let orphans = match (parts.next(), parts.next()) {
            (None, _) => Orphans::Kill,
            (Some(LEAVE), None) => Orphans::Leave,
            _ => return None,
        };
        Some(Cookie { realm: Realm { vm, generation }, id, orphans })
    }

    /// Adds this cookie to an environment, a block of entries that end with a NUL, beside those that are there.
    pub fn put(self, env: &[u8]) -> Vec<u8> {
        let text = self.text();
        let mut block = Vec::with_capacity(env.len() + COOKIE_NAME.len() + text.len() + 2);
        let mut entry = format!("{COOKIE_NAME}=").into_bytes();
        for variable in env.split_inclusive(|byte| *byte == 0) {
            match value(variable.strip_suffix(b"\0").unwrap_or(variable)) {
                Some(others) => {
                    entry.extend_from_slice(others);
                    entry.push(b',');
                }
                None => block.extend_from_slice(variable),
            }
        }
        block.extend_from_slice(&entry);
        block.extend_from_slice(text.as_bytes());
        block.push(0);
        block
    }
}

/// The cookies in an environment, as `/proc/<pid>/environ` shows it.
pub fn cookies(environ: &[u8]) -> impl Iterator<Item = Cookie> + '_ {
    environ
        .split(|byte| *byte == 0)
        .filter_map(value)
        .flat_map(|cookies| cookies.split(|byte| *byte == b','))
        .filter_map(Cookie::parse)
}

fn value(variable: &[u8]) -> Option<&[u8]> {
    variable.strip_prefix(COOKIE_NAME.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Cookie =
        Cookie { realm: Realm { vm: 0xab, generation: 2 }, id: PortId(17), orphans: Orphans::Kill };

    #[test]
    fn a_cookie_is_found_as_it_was_put() {
        for orphans in [Orphans::Kill, Orphans::Leave] {
            let cookie = Cookie { orphans, ..OURS };
            let env = cookie.put(b"HOME=/\0");
            assert!(env.starts_with(b"HOME=/\0"));
            assert_eq!(cookies(&env).collect::<Vec<_>>(), [cookie]);
        }
    }

    #[test]
    fn a_cookie_has_its_documented_form() {
        assert_eq!(OURS.text(), "00000000000000ab.2.17");
        assert_eq!(Cookie { orphans: Orphans::Leave, ..OURS }.text(), "00000000000000ab.2.17.leave");
    }

    #[test]
    fn an_outer_cookie_stays_beside_the_new_one_in_one_variable() {
        let outer = Cookie { realm: Realm { vm: 1, generation: 1 }, ..OURS };
        let env = OURS.put(&outer.put(b""));
        assert_eq!(env.split(|byte| *byte == 0).count(), 2, "one, and nothing behind its NUL");
        assert_eq!(cookies(&env).collect::<Vec<_>>(), [outer, OURS]);
    }

    #[test]
    fn what_is_no_cookie_is_passed_over() {
        for text in ["", "x", "1.2", "1.2.3.stay", "1.2.3.leave.4", "g.2.3", "1.-2.3"] {
            let env = format!("{COOKIE_NAME}={text}");
            assert_eq!(cookies(env.as_bytes()).count(), 0, "{text}");
        }
        assert_eq!(cookies(b"SAFE_PORT_COOKIES=1.2.3").count(), 0);
    }
}

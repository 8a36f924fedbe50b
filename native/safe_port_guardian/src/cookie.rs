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

    /// Adds this cookie to an environment, beside those that are there.
    pub fn put(self, env: &mut Vec<Vec<u8>>) {
        let mut entry = format!("{COOKIE_NAME}=").into_bytes();
        env.retain(|variable| match value(variable) {
            Some(others) => {
                entry.extend_from_slice(others);
                entry.push(b',');
                false
            }
            None => true,
        });
        entry.extend_from_slice(self.text().as_bytes());
        env.push(entry);
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
            let mut env = vec![b"HOME=/".to_vec()];
            cookie.put(&mut env);
            assert_eq!(cookies(&env.join(&0)).collect::<Vec<_>>(), [cookie]);
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
        let mut env = Vec::new();
        outer.put(&mut env);
        OURS.put(&mut env);
        assert_eq!(env.len(), 1);
        assert_eq!(cookies(&env[0]).collect::<Vec<_>>(), [outer, OURS]);
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

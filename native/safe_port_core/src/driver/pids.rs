//! Processes of the VM: numbers for the runner, pids in external term format for drivers.

const VERSION: u8 = 131;
const NEW_PID: u8 = 88;
const SMALL_ATOM_UTF8: u8 = 119;
/// Bytes behind the node: id, serial and creation.
const NUMBERS_BYTES: usize = 12;

/// What all pids of a VM have in common. The number of a process is `serial * 2^32 + id`, never 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pids {
    /// Up to the numbers of the process.
    head: Vec<u8>,
    creation: u32,
}

impl Pids {
    /// `node` has at most 255 bytes, as the VM's atoms do here; a longer one is cut off, and no pid matches.
    pub fn new(node: &[u8], creation: u32) -> Pids {
        let node = &node[..node.len().min(255)];
        Pids { head: [&[VERSION, NEW_PID, SMALL_ATOM_UTF8, node.len() as u8], node].concat(), creation }
    }

    /// What the pid `term` has in common with all of its VM; `None` if it is no pid.
    pub fn of(term: &[u8]) -> Option<Pids> {
        let rest = term.strip_prefix(&[VERSION, NEW_PID])?;
        // The length takes two bytes with some tags of an atom and one with others; what follows is the same.
        let ([100 | 118, _, _, node @ ..] | [115 | SMALL_ATOM_UTF8, _, node @ ..]) = rest else {
            return None;
        };
        let (node, numbers) = node.split_last_chunk::<NUMBERS_BYTES>()?;
        let creation = numbers.last_chunk()?;
        Some(Pids::new(node, u32::from_be_bytes(*creation)))
    }

    /// The number of a pid of any VM; `None` for what is too short for one.
    pub fn number(term: &[u8]) -> Option<u64> {
        let [id @ .., _, _, _, _] = term.last_chunk::<NUMBERS_BYTES>()?;
        let (id, serial) = (id.first_chunk()?, id.last_chunk()?);
        Some(u64::from(u32::from_be_bytes(*serial)) << 32 | u64::from(u32::from_be_bytes(*id)))
    }

    /// The pid with this number.
    pub fn to_term(&self, pid: u64) -> Vec<u8> {
        let (id, serial) = (pid as u32, (pid >> 32) as u32);
        [&self.head[..], &id.to_be_bytes(), &serial.to_be_bytes(), &self.creation.to_be_bytes()].concat()
    }

    /// The number of a pid; `None` for other terms and other nodes' pids.
    pub fn number_of(&self, term: &[u8]) -> Option<u64> {
        let numbers = term.strip_prefix(&self.head[..])?;
        if numbers.len() == NUMBERS_BYTES && numbers.ends_with(&self.creation.to_be_bytes()) {
            Pids::number(term)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pids;

    #[test]
    fn a_pid_is_the_same_after_both_ways() {
        let pids = Pids::new(b"nonode@nohost", 0);
        let pid = (3 << 32) + 80;
        let term = pids.to_term(pid);
        assert_eq!(term[..4], [131, 88, 119, 13]);
        assert_eq!(term[17..], [0, 0, 0, 80, 0, 0, 0, 3, 0, 0, 0, 0]);
        assert_eq!(pids.number_of(&term), Some(pid));
    }

    #[test]
    fn the_pid_of_a_vm_tells_what_all_its_pids_have_in_common() {
        let numbers = [0, 0, 0, 80, 0, 0, 0, 3, 0, 0, 0, 7];
        for head in [&[131, 88, 100, 0, 1, b'n'][..], &[131, 88, 119, 1, b'n']] {
            let term = [head, &numbers].concat();
            assert_eq!(Pids::of(&term), Some(Pids::new(b"n", 7)));
            assert_eq!(Pids::number(&term), Some((3 << 32) + 80));
        }
        assert_eq!(Pids::of(&[131, 97, 1]), None);
        assert_eq!(Pids::number(&[131, 97, 1]), None);
    }

    #[test]
    fn pids_of_other_nodes_and_other_terms_are_none() {
        let term = Pids::new(b"one", 0).to_term(1);
        assert_eq!(Pids::new(b"two", 0).number_of(&term), None);
        assert_eq!(Pids::new(b"one", 1).number_of(&term), None);
        assert_eq!(Pids::new(b"one", 0).number_of(&term[..9]), None);
        assert_eq!(Pids::new(b"one", 0).number_of(b""), None);
    }
}

//! Who descends from whom, in one look at all processes.

use std::collections::HashMap;

use crate::proc::Process;

/// The processes below `own`, each behind the child of `own` that it descends from; the children are among them.
pub fn below(own: i32, processes: &[Process]) -> Vec<(&Process, &Process)> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in processes.iter().filter(|process| process.pid != own) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<(&Process, &Process)> =
        children.get(&own).into_iter().flatten().map(|child| (*child, *child)).collect();
    // Every process is in one list only and `own` in none, so that this ends even if the look was not consistent.
    let mut next = 0;
    while let Some((root, process)) = found.get(next).copied() {
        found.extend(children.get(&process.pid).into_iter().flatten().map(|child| (root, *child)));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, group: pid, session: pid, state: b'S', start: 0 }
    }

    #[test]
    fn descendants_are_found_under_their_roots_and_nobody_else_is() {
        let processes = [
            process(1, 0),
            process(20, 10),
            process(10, 1),
            process(21, 20),
            process(30, 10),
            process(22, 21),
            process(99, 1),
            process(98, 99),
            process(31, 30),
        ];
        let mut found: Vec<(i32, i32)> =
            below(10, &processes).into_iter().map(|(root, process)| (root.pid, process.pid)).collect();
        found.sort_unstable();
        assert_eq!(found, [(20, 20), (20, 21), (20, 22), (30, 30), (30, 31)]);
    }

    #[test]
    fn a_circle_in_an_inconsistent_look_does_no_harm() {
        let processes = [process(10, 22), process(20, 10), process(22, 20), process(40, 41), process(41, 40)];
        assert_eq!(below(10, &processes).len(), 2);
        assert!(below(7, &processes).is_empty());
    }
}

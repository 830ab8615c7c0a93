//! Connections that have an end in common, and children that run the same command: each has a
//! number of its own, which tells nobody anything.

use crate::recording::ObjectKind;
use crate::report::{ObjectGroup, ObjectTotal};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// What objects have in common: one end of a connection, with its protocol, or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum End<'a> {
    /// The peer's: we have called there.
    Peer(&'a str, &'a str),
    /// Our own: the peers have called us.
    Own(&'a str, &'a str),
    /// The command of a child.
    Command(&'a str),
}

/// What `all` are with connections and children counted and not named: none where no two of them belong
/// together. The longest first.
pub(super) fn groups(all: &[ObjectTotal]) -> Vec<ObjectGroup> {
    let mut count: HashMap<End<'_>, usize> = HashMap::new();
    for (peer, own) in all.iter().filter_map(ends) {
        *count.entry(peer).or_default() += 1;
        if own != peer {
            *count.entry(own).or_default() += 1;
        }
    }
    // By that end which more of them have.
    let shared = |object| {
        let (peer, own) = ends(object)?;
        let of = |end| count.get(&end).copied().unwrap_or(0);
        let end = if of(peer) >= of(own) { peer } else { own };
        (of(end) > 1).then_some(end)
    };
    let mut groups: BTreeMap<End<'_>, Vec<&ObjectTotal>> = BTreeMap::new();
    let mut single: Vec<&ObjectTotal> = Vec::new();
    for object in all {
        match shared(object) {
            Some(end) => groups.entry(end).or_default().push(object),
            None => single.push(object),
        }
    }
    let mut found: Vec<ObjectGroup> = Vec::new();
    for (end, members) in groups {
        match members.as_slice() {
            // The others are with their other end.
            [one] => single.push(one),
            members => found.push(ObjectGroup {
                kind: match end {
                    End::Command(_) => ObjectKind::Process,
                    End::Peer(..) | End::Own(..) => ObjectKind::Socket,
                },
                name: match end {
                    End::Command(command) => command.to_owned(),
                    End::Peer(protocol, address) => format!("{protocol} to {address}"),
                    End::Own(protocol, address) => format!("{protocol} at {address}"),
                },
                objects: members.len() as u64,
                waits: members.iter().map(|object| object.waits).sum(),
                total_ns: members.iter().map(|object| object.total_ns).sum(),
            }),
        }
    }
    if found.is_empty() {
        return found;
    }
    found.extend(single.into_iter().map(|object| ObjectGroup {
        kind: object.kind,
        name: object.name.clone(),
        objects: 1,
        waits: object.waits,
        total_ns: object.total_ns,
    }));
    found.sort_by(|a, b| {
        let order = |group: &ObjectGroup| (Reverse(group.total_ns), group.kind);
        order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
    });
    found
}

/// Both ends of a connection, `tcp 10.0.0.1:40112 -> 10.0.0.5:5432`; twice the command of a child,
/// `77 (sleep)`.
fn ends(object: &ObjectTotal) -> Option<(End<'_>, End<'_>)> {
    if object.kind == ObjectKind::Process {
        let (_, command) = object.name.strip_suffix(')')?.split_once(" (")?;
        return Some((End::Command(command), End::Command(command)));
    }
    if object.kind != ObjectKind::Socket {
        return None;
    }
    let (protocol, addresses) = object.name.split_once(' ')?;
    let (own, peer) = addresses.split_once(" -> ")?;
    Some((End::Peer(protocol, peer), End::Own(protocol, own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Nanos;

    fn objects(names: &[(&str, u64)]) -> Vec<ObjectTotal> {
        let object = |(name, total): &(&str, u64)| ObjectTotal {
            kind: if name.starts_with('/') {
                ObjectKind::Path
            } else {
                ObjectKind::Socket
            },
            name: (*name).into(),
            waits: 1,
            total_ns: Nanos(*total),
        };
        names.iter().map(object).collect()
    }

    fn grouped(names: &[(&str, u64)]) -> Vec<(String, u64, u64)> {
        let groups = groups(&objects(names)).into_iter();
        groups
            .map(|group| (group.name, group.objects, group.total_ns.0))
            .collect()
    }

    #[test]
    fn connections_to_one_peer_are_one() {
        assert_eq!(
            grouped(&[
                ("tcp 10.0.0.1:4001 -> 10.0.0.5:5432", 30),
                ("tcp 10.0.0.1:4003 -> 10.0.0.6:5432", 25),
                ("tcp 10.0.0.1:4002 -> 10.0.0.5:5432", 20),
                ("/var/lib/a", 15),
            ]),
            [
                ("tcp to 10.0.0.5:5432".into(), 2, 50),
                ("tcp 10.0.0.1:4003 -> 10.0.0.6:5432".into(), 1, 25),
                ("/var/lib/a".into(), 1, 15),
            ]
        );
    }

    #[test]
    fn connections_of_callers_are_one_by_our_own_end() {
        assert_eq!(
            grouped(&[
                ("tcp [::1]:80 -> [::1]:4001", 1),
                ("tcp [::1]:80 -> [::1]:4002", 2),
                ("tcp [::1]:80 -> [fe80::1]:4002", 4),
                ("udp [::1]:80 -> [::1]:4003", 3),
            ]),
            [
                ("tcp at [::1]:80".into(), 3, 7),
                ("udp [::1]:80 -> [::1]:4003".into(), 1, 3),
            ]
        );
    }

    #[test]
    fn children_are_one_by_their_command() {
        let child = |name: &str| ObjectTotal {
            kind: ObjectKind::Process,
            name: name.into(),
            waits: 1,
            total_ns: Nanos(3),
        };
        let all = ["77 (sleep)", "78 (sleep)", "79 (a (b)", "80"].map(child);
        let groups = groups(&all);
        let names: Vec<_> = groups
            .iter()
            .map(|group| (group.name.as_str(), group.objects))
            .collect();
        assert_eq!(names, [("sleep", 2), ("79 (a (b)", 1), ("80", 1)]);
    }

    /// A group whose members went to another end is none.
    #[test]
    fn each_connection_is_in_one_group() {
        let groups = grouped(&[
            ("tcp 1.1.1.1:1 -> 2.2.2.2:2", 1),
            ("tcp 1.1.1.1:9 -> 2.2.2.2:2", 1),
            ("tcp 1.1.1.1:8 -> 2.2.2.2:2", 1),
            ("tcp 1.1.1.1:1 -> 2.2.2.2:7", 1),
        ]);
        assert_eq!(groups.len(), 2, "{groups:?}");
        assert_eq!(groups.iter().map(|group| group.1).sum::<u64>(), 4);
    }

    #[test]
    fn what_has_nothing_in_common_is_left_as_it_is() {
        assert!(grouped(&[]).is_empty());
        assert!(
            grouped(&[
                ("tcp 127.0.0.1:80", 1),
                ("unix /run/a -> x", 1),
                ("netlink", 1),
                ("tcp 1.1.1.1:1 -> 2.2.2.2:2", 1),
            ])
            .is_empty()
        );
    }
}

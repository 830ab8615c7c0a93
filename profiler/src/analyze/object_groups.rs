//! What was waited for. Connections that have an end in common, and children that run the same
//! command, belong together: each has a number of its own, which tells nobody anything.

use super::stack_facts::object;
use crate::recording::{Object, ObjectId, ObjectKind, Tables};
use crate::report::ObjectGroup;
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Objects of one site that a report names.
pub(super) const MAX_OBJECTS: usize = 16;

/// An object's part of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectSum {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
    /// How many things it stands for, as [`crate::recording::WaitObject::many`].
    pub(super) many: u64,
    /// Waits or calls.
    pub(super) number: u64,
    pub(super) total: Nanos,
}

/// The objects of a site, the one with the most time first.
pub(super) fn sum_objects(
    tables: &Tables,
    parts: impl Iterator<Item = (Option<ObjectId>, (u64, Nanos))>,
) -> Vec<ObjectSum> {
    let mut sums: HashMap<&Object, (u64, u64, Nanos)> = HashMap::new();
    for (id, (number, time)) in parts {
        if let Some(object) = object(tables, id) {
            let sum = sums.entry(&object.object).or_default();
            // By several descriptors it is the same things.
            sum.0 = sum.0.max(u64::from(object.many));
            sum.1 = sum.1.saturating_add(number);
            sum.2 += time;
        }
    }
    let sums = sums.into_iter();
    let mut all: Vec<ObjectSum> = sums
        .map(|(object, (many, number, total))| ObjectSum {
            kind: object.kind,
            name: object.name.clone(),
            many,
            number,
            total,
        })
        .collect();
    all.sort_by(|a, b| {
        b.total
            .cmp(&a.total)
            .then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name)))
    });
    all
}

/// Leaves `most` of them; for how many things the others stand.
pub(super) fn shorten<T>(all: &mut Vec<T>, most: usize, many: impl Fn(&T) -> u64) -> u64 {
    let more = all.iter().skip(most).map(many).sum();
    all.truncate(most);
    more
}

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
pub(super) fn groups(all: &[ObjectSum]) -> Vec<ObjectGroup> {
    let mut count: HashMap<End<'_>, u64> = HashMap::new();
    for object in all {
        let Some((peer, own)) = ends(object) else {
            continue;
        };
        *count.entry(peer).or_default() += object.many;
        if own != peer {
            *count.entry(own).or_default() += object.many;
        }
    }
    // By that end which more of them have.
    let shared = |object| {
        let (peer, own) = ends(object)?;
        let of = |end| count.get(&end).copied().unwrap_or(0);
        let end = if of(peer) >= of(own) { peer } else { own };
        (of(end) > 1).then_some(end)
    };
    let mut groups: BTreeMap<End<'_>, Vec<&ObjectSum>> = BTreeMap::new();
    let mut single: Vec<&ObjectSum> = Vec::new();
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
            [one] if one.many <= 1 => single.push(one),
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
                objects: members.iter().map(|object| object.many).sum(),
                waits: members.iter().map(|object| object.number).sum(),
                total_ns: members.iter().map(|object| object.total).sum(),
            }),
        }
    }
    if found.is_empty() {
        return found;
    }
    found.extend(single.into_iter().map(|object| ObjectGroup {
        kind: object.kind,
        name: object.name.clone(),
        objects: object.many,
        waits: object.number,
        total_ns: object.total,
    }));
    found.sort_by(|a, b| {
        let order = |group: &ObjectGroup| (Reverse(group.total_ns), group.kind);
        order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
    });
    found
}

/// Both ends of a connection, `tcp 10.0.0.1:40112 -> 10.0.0.5:5432`; twice the command of a child,
/// `77 (sleep)`.
fn ends(object: &ObjectSum) -> Option<(End<'_>, End<'_>)> {
    if object.kind == ObjectKind::Process {
        let (_, command) = object.name.strip_suffix(')')?.split_once(" (")?;
        return Some((End::Command(command), End::Command(command)));
    }
    if object.kind != ObjectKind::Socket {
        return None;
    }
    let (protocol, addresses) = object.name.split_once(' ')?;
    let (own, peer) = addresses.split_once(" -> ")?;
    let (own_end, peer_end) = (End::Own(protocol, own), End::Peer(protocol, peer));
    // Where connections share an entry, the end that they do not have in common is a star.
    if own.contains('*') {
        Some((peer_end, peer_end))
    } else if peer.contains('*') {
        Some((own_end, own_end))
    } else {
        Some((peer_end, own_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(names: &[(&str, u64)]) -> Vec<ObjectSum> {
        let object = |(name, total): &(&str, u64)| ObjectSum {
            kind: if name.starts_with('/') {
                ObjectKind::Path
            } else {
                ObjectKind::Socket
            },
            name: (*name).into(),
            many: 1,
            number: 1,
            total: Nanos(*total),
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
        let child = |name: &str| ObjectSum {
            kind: ObjectKind::Process,
            name: name.into(),
            many: 1,
            number: 1,
            total: Nanos(3),
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

    #[test]
    fn connections_that_share_an_entry_are_all_counted() {
        let mut all = objects(&[
            ("tcp 10.0.0.1:4001 -> 10.0.0.5:5432", 30),
            ("tcp 10.0.0.1:* -> 10.0.0.5:5432", 20),
            ("tcp 10.0.0.1:* -> 10.0.0.6:5432", 10),
        ]);
        for shared in &mut all[1..] {
            shared.many = 40;
        }
        let groups: Vec<_> = groups(&all)
            .into_iter()
            .map(|group| (group.name, group.objects))
            .collect();
        let wanted = [("tcp to 10.0.0.5:5432", 41), ("tcp to 10.0.0.6:5432", 40)];
        assert_eq!(groups, wanted.map(|(name, many)| (name.to_owned(), many)));
        assert_eq!(shorten(&mut all, 1, |object| object.many), 80);
    }
}

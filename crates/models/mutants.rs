//! Broken variants of the tested code. Each variant shows that its model detects an error of this kind.
#![allow(dead_code)] // the build script uses `edits`, and the test uses the other fields

/// One broken variant.
pub struct Mutant {
    /// What is wrong with the variant.
    pub name: &'static str,
    /// The name of the model that must fail on the variant.
    pub model: &'static str,
    /// A part of the message with which the model must fail.
    pub message: &'static str,
    /// For each edit: the file, the text that is replaced, and the new text.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

/// loom's message when all threads wait.
const DEADLOCK: &str = "deadlock";
/// loom's message when two threads access a cell without an order between the accesses, and one of them stores.
const RACE: &str = "Causality violation";

const GATE: &str = "src/map/gate.rs";
const CLOSE: &str = "src/map/close.rs";
const HEALTH: &str = "src/map/health.rs";
const LOCK: &str = "src/file/lock.rs";
const REGISTRY: &str = "src/registry.rs";
const FAULT_GATE: &str = "src/sys/linux/sigbus/gate.rs";
const TABLE: &str = "src/sys/linux/sigbus/table.rs";
const PAGES: &str = "src/sys/linux/sigbus/pages.rs";
const ENTRIES: &str = "crates/models/src/entries.rs";

/// Every broken variant.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a lease is counted after the check, under another lock",
        model: "close: by path, while two threads move blocks",
        message: RACE,
        edits: &[(
            GATE,
            "        let mut leases = lock(&self.leases);\n        let is_open = !self.is_closed();\n        *leases += usize::from(is_open);",
            "        let is_open = !self.is_closed();\n        *lock(&self.leases) += usize::from(is_open);",
        )],
    },
    Mutant {
        name: "closing does not wait for leases",
        model: "close: by path and by the owner, while a thread moves a block",
        message: RACE,
        edits: &[(GATE, "while *leases > 0 && self.process == std::process::id() {", "while false {")],
    },
    Mutant {
        name: "the last lease that is given back wakes nobody",
        model: "close: by path, while two threads move blocks",
        message: DEADLOCK,
        edits: &[(GATE, "if *leases == 0 {", "if false {")],
    },
    Mutant {
        name: "a lease on one mapping waits until another lease is given back",
        model: "close: a mapping, while two threads hold leases on it and on another",
        message: DEADLOCK,
        edits: &[(
            GATE,
            "        let is_open = !self.is_closed();\n",
            "        while *leases > 0 { leases = wait(&self.returned, leases); }\n        let is_open = !self.is_closed();\n",
        )],
    },
    Mutant {
        name: "closing by path releases the lock",
        model: "close: by path twice and by the owner, the disk works",
        message: "only the owner releases the lock",
        edits: &[(
            CLOSE,
            "            held.mark_closed();\n        }",
            "            held.mark_closed();\n        }\n        *lock(&self.lock) = None;",
        )],
    },
    Mutant {
        name: "a second close by path does not repeat the failure",
        model: "close: by path twice and by the owner, the disk fails once",
        message: "every close reports",
        edits: &[(CLOSE, "            result_of_earlier(&failure)?;\n", "")],
    },
    Mutant {
        name: "a failure of the owner's close is not remembered",
        model: "close: by path twice and by the owner, the disk fails once",
        message: "every close reports",
        edits: &[(
            CLOSE,
            "        *failure = result.as_ref().err().map(Error::repeated);\n        *lock(&self.lock) = None;",
            "        *lock(&self.lock) = None;",
        )],
    },
    Mutant {
        name: "a sync does not wait for the ones that it overlaps",
        model: "sync: two at once, the disk fails once",
        message: "no sync returns Ok",
        edits: &[(HEALTH, "        drop(sync::write(&self.syncs));\n", "")],
    },
    Mutant {
        name: "a mapping is poisoned after its sync has ended",
        model: "sync: three at once, the disk fails once",
        message: "no sync returns Ok",
        edits: &[(
            HEALTH,
            "        let _in_progress = sync::read(&self.syncs);\n        sync().map_err(|error| self.poison(error))",
            "        let in_progress = sync::read(&self.syncs);\n        let result = sync();\n        drop(in_progress);\n        result.map_err(|error| self.poison(error))",
        )],
    },
    Mutant {
        name: "memory is unmapped before its entry is removed, and the entry of another mapping is removed",
        model: "registry: two mappings come and go at one address, one looks there",
        message: "a live mapping is found",
        edits: &[
            (
                ENTRIES,
                "        REGISTRY.remove(ADDRESSES, FILE, self);",
                "        *lock(&MAPPED) = None;\n        REGISTRY.remove(ADDRESSES, FILE, self);",
            ),
            (ENTRIES, "        assert_eq!(lock(&MAPPED).take(), Some(self.number), \"unmapped once\");", ""),
            (REGISTRY, "!addresses.is_empty() && held.as_ptr() == entry", "!addresses.is_empty()"),
        ],
    },
    Mutant {
        name: "an owner is dropped while the registry is locked",
        model: "registry: a mapping goes, while two threads look",
        message: DEADLOCK,
        edits: &[(
            REGISTRY,
            "if address < *end { entry.upgrade() }",
            "if address < *end { drop(entry.upgrade()); entry.upgrade() }",
        )],
    },
    Mutant {
        name: "an entry on a file stays after its mapping",
        model: "registry: two mappings come and go at one address, one looks there",
        message: "no entry is left",
        edits: &[(REGISTRY, "            entries.remove(&(entry as usize));\n", "")],
    },
    Mutant {
        name: "an entry at an address stays after its mapping",
        model: "registry: a mapping goes, while two threads look",
        message: "no entry is left",
        edits: &[(REGISTRY, "                tables.by_address.remove(&addresses.start);\n", "")],
    },
    Mutant {
        name: "the kernel maps an address that is in use",
        model: "registry: two mappings come and go at one address, one looks there",
        message: "unmapped once",
        edits: &[(
            ENTRIES,
            "            if mapped.is_some() {\n                return None;\n            }\n",
            "",
        )],
    },
    Mutant {
        name: "the kernel's lock is released after the entry of the table",
        model: "locks: two writers and a reader that overlap",
        message: "the table is free, and the kernel's lock is not",
        edits: &[
            (
                LOCK,
                "        if self.locking == Locking::Kernel && self.is_ours() {\n            let _ = sys::unlock_range(&self.file, self.bytes.clone());\n        }\n",
                "",
            ),
            (
                LOCK,
                "                claims.by_file.remove(&self.id);\n            }\n        }\n",
                "                claims.by_file.remove(&self.id);\n            }\n        }\n        drop(claims);\n        if self.locking == Locking::Kernel {\n            _ = sys::unlock_range(&self.file, self.bytes.clone());\n        }\n",
            ),
        ],
    },
    Mutant {
        name: "a downgrade changes the entry before the kernel's lock",
        model: "locks: a writer becomes a reader, a reader and a writer come",
        message: "the table is free, and the kernel's lock is not",
        edits: &[(
            LOCK,
            "        if self.locking == Locking::Kernel {\n            sys::lock_range",
            "        self.change_claim(|claim| claim.mode = LockMode::Shared);\n        if self.locking == Locking::Kernel {\n            sys::lock_range",
        )],
    },
    Mutant {
        name: "ranges that overlap by three bytes do not conflict",
        model: "locks: two writers and a reader that overlap",
        message: "share bytes with a writer",
        edits: &[
            (LOCK, "..(bytes.end, 0)", "..(bytes.end.saturating_sub(3), 0)"),
            (
                "crates/models/src/sys/mod.rs",
                "held.file != file && overlap(&held.bytes, &bytes) && exclusive",
                "false && exclusive",
            ),
        ],
    },
    Mutant {
        name: "an array that is marked closed gives its claim up",
        model: "locks: marked closed, while others ask",
        message: "the kernel's lock is not",
        edits: &[(
            LOCK,
            "self.change_claim(|claim| claim.is_closed = true);",
            "self.change_claim(|claim| claim.mode = LockMode::Shared);",
        )],
    },
    Mutant {
        name: "a hold does not wait for handlers",
        model: "fault gate: two handlers and a holder",
        message: RACE,
        edits: &[(FAULT_GATE, "while gate.inside.load(Ordering::SeqCst) != 0 {", "while false {")],
    },
    Mutant {
        name: "a handler checks whether the gate is closed before it is counted as inside",
        model: "fault gate: a handler and a holder",
        message: RACE,
        edits: &[(
            FAULT_GATE,
            "    gate.inside.fetch_add(1, Ordering::SeqCst);\n    let is_closed = gate.closed_by.load(Ordering::SeqCst) != 0;\n",
            "    let is_closed = gate.closed_by.load(Ordering::SeqCst) != 0;\n    gate.inside.fetch_add(1, Ordering::SeqCst);\n",
        )],
    },
    Mutant {
        name: "the handler's load of `closed_by` is not sequentially consistent",
        model: "fault gate: a handler and a holder",
        message: RACE,
        edits: &[(
            FAULT_GATE,
            "gate.closed_by.load(Ordering::SeqCst)",
            "gate.closed_by.load(Ordering::Acquire)",
        )],
    },
    Mutant {
        name: "the load of `inside` in `close_gate` is not sequentially consistent",
        model: "fault gate: a handler and a holder",
        message: RACE,
        edits: &[(FAULT_GATE, "gate.inside.load(Ordering::SeqCst)", "gate.inside.load(Ordering::Acquire)")],
    },
    Mutant {
        name: "a slot is written without a fence",
        model: "fault table: a slot is used again, while a handler reads it",
        message: "is that of registration",
        edits: &[(TABLE, "        fence(Ordering::Release);\n", "")],
    },
    Mutant {
        name: "a slot is read without a fence",
        model: "fault table: a slot is used again, while a handler reads it",
        message: "is that of registration",
        edits: &[(TABLE, "        fence(Ordering::Acquire);\n", "")],
    },
    Mutant {
        name: "the serial number is not looked at again",
        model: "fault table: a slot is used again, while a handler reads it",
        message: "is that of registration",
        edits: &[(TABLE, "self.serial.load(Ordering::Relaxed) == serial;", "true;")],
    },
    Mutant {
        name: "each thread keeps the page states that it made",
        model: "page states: three threads fault on one page at first",
        message: RACE,
        edits: &[(
            PAGES,
            "                unmap(made, page_count);\n                Some(theirs)",
            "                _ = theirs;\n                Some(made)",
        )],
    },
];

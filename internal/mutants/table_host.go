package main

// hostMutants take out what a host adds: its identity, its two engines, quarantine.
var hostMutants = []mutant{
	{name: "incarnation of a new directory", guards: "a host whose disk was wiped votes under its old server id",
		file: "identity.go", old: "	if _, err := rand.Read(random); err != nil {\n		return identity{}, err\n	}\n", new: "	_, _ = rand.Read(nil)\n",
		pkg: ".", test: "TestWipedMemberIsHealedByAntiEntropy"},
	{name: "directory that lost an engine", guards: "a host that lost its log votes under its old server id",
		file: "identity.go", old: "		if err == nil && id.Ready {", new: "		if false {",
		pkg: ".", test: "TestDirectoryThatLostAnEngine"},
	{name: "durable name of a directory", guards: "a host acknowledges what a crash takes away with the directory's name",
		file: "identity.go", old: "	if err := syncdir.Sync(fs, fs.PathDir(dir)); err != nil {", new: "	if err := error(nil); err != nil {",
		pkg: ".", test: "TestFullDisk"},
	{name: "documents go before their log", guards: "a crash while a member is dropped looks like a lost log",
		file: "host.go", old: "	if err := docs.Drop(id); err != nil {\n", new: "	if docs, logs = logs, docs; docs == nil {\n		return nil\n	}\n	if err := docs.Drop(id); err != nil {\n",
		pkg: ".", test: "TestDocumentsAreDroppedBeforeTheirLog"},
	{name: "ends of a quarantine", guards: "of two choices made apart, what only one of them knew of is forgotten",
		file: "divergence.go", old: "	case !q.on(): // two operators chose", new: "	case false: // two operators chose",
		pkg: ".", test: "TestTwoEndsAreNone"},
	{name: "whole host that is kept", guards: "others discard their versions for one with holes",
		file: "quarantine.go", old: "case keep != \"\" && !m.whole(&q):", new: "case false:",
		pkg: ".", test: "TestIncompleteVersionIsNotKept"},
	{name: "quarantine", guards: "a diverged partition takes writes",
		file: "divergence.go", old: "		q = quarantine{Epoch: q.Epoch + 1, Restore: q.Restore}\n", new: "		q = quarantine{Epoch: q.Epoch + 2, Restore: q.Restore}\n",
		pkg: ".", test: "TestQuarantineConverges"},
}

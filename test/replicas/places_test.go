//go:build linux

package replicas_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// places are what a single process could keep to itself, and the tests that have two processes, or two openings of one
// store, at it.
var places = []struct {
	what  string
	tests []string // package and name
}{
	{"the numbers of epochs", []string{"sealed.TestReplicasEraseAtOnce", "sealed.TestReplicasSweepDuringATurn"}},
	{"the root keys of a ring of keys", []string{"sealed.TestReplicasSeeTurns"}},
	{"a lock, and its lease", []string{"sealed.TestReplicasLock", "server.TestReplicasLockTogether"}},
	{"a space that is dropped", []string{"sealed.TestReplicasDrop"}},
	{"the folder of keys", []string{"sealed.TestReplicasTakeTheSameKeys", "test/replicas.TestTwoReplicas"}},
	{"the sweep of epochs", []string{"sealed.TestReplicasSweepDuringATurn"}},
	{"anchors", []string{"sealed.TestReplicasAnchorNoOlderState", "sealed.TestReplicasDetectARollback"}},
	{"folds of nurseries", []string{"sealed.TestReplicasAgreeWithAModel"}},
	{"the engine, which is opened once", []string{"sealed.TestOneStoreAlone", "test/replicas.TestTwoReplicas"}},
	{"what rings of keys have read", []string{"sealed.TestReplicasAgreeWithAModel"}},
	{"sequence numbers", []string{"sealed.TestReplicasAgreeWithAModel", "face.TestReplicasAgreeWithAModel"}},
	{"the end of the audit log", []string{"audit.TestTwoWritersMakeOneChain", "audit.TestOneProcessSigns"}},
	{"galleries", []string{"face.TestDeletedFacesAreFoundByNoReplica", "face.TestReplicasForgetWhatOthersDelete",
		"face.TestTrainingsAndDeletedCollectionsReachEveryReplica"}},
	{"the order of lists", []string{"face.TestListsAndNamesAreTheSameOnEveryReplica"}},
	{"locks of objects", []string{"face.TestReplicasChangeOneListAtOnce"}},
	{"trainings, sweeps, expiry and retention", []string{"face.TestOneReplicaTrains", "face.TestATrainingEndsOnce",
		"face.TestOneReplicaExpires", "test/replicas.TestTwoReplicas"}},
	{"days of matches", []string{"face.TestTheLatestMatchCounts"}},
	{"resources, identities and signing keys", []string{"account.TestKeysAreOfAllProcesses",
		"account.TestNamesAndPlacesAreOfAllProcesses", "account.TestDeletionIsOfAllProcesses",
		"identity.TestWhatIsRevokedIsRefusedEverywhere", "identity.TestSigningKeysAreMadeOnce"}},
	{"changes of customers' keys, and their state", []string{"custody.TestReplicasFollowAKey",
		"custody.TestReplicasFollowTheOwner", "custody.TestOneProcessChangesKeys",
		"test/replicas.TestAChangeOfKeysIsTakenOver"}},
	{"the vault in the same process", []string{"server.TestReplicasLockTogether"}},
	{"rotations of vaults' keys", []string{"keyvault.TestReplicasRotateAKeyOnce",
		"keyvault.TestReplicasThatRotateAtOnce"}},
	{"rates", []string{"sealed.TestReplicasAreCounted", "api.TestReplicasShareARate"}},
	{"budgets for photos and bodies, which are each process's own", nil},
	{"the authority and the operator's credential", []string{"server.TestReplicasHaveOneDirectory",
		"test/replicas.TestTwoReplicas"}},
	{"programs beside a server", []string{"sealed.TestVerifyBesideReplicas", "sealed.TestRestoreAlone"}},
	{"backups", []string{"sealed.TestBackupDuringTheTurnsOfAnotherReplica"}},
	{"detected faces", []string{"face.TestDetectedFacesAreOfAllReplicas"}},
}

// TestEveryPlaceHasItsTest keeps the list true: each test that it names exists.
func TestEveryPlaceHasItsTest(t *testing.T) {
	there := map[string]bool{}
	for _, p := range places {
		for _, test := range p.tests {
			at, name, _ := strings.Cut(test, ".")
			if _, read := there[at]; !read {
				there[at] = true
				for _, name := range testsOf(t, at) {
					there[at+"."+name] = true
				}
			}
			if !there[test] {
				t.Errorf("%s: package %s has no test %s", p.what, at, name)
			}
		}
	}
}

func testsOf(t *testing.T, at string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", at, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

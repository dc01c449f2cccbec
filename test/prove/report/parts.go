package main

const here = "./test/prove"

// parts are the parts of the proof in the order in which they run: the shortest first.
var parts = []Part{
	{"authorisation", "Every route of every plane answers every kind of caller as docs/authorisation.md says.", []Run{
		{Packages: "./server", Tests: "^(TestAuthorisation|TestPagesForMachines)$"},
	}},
	{
		"fips",
		"Every use of cryptography is listed with its standing, and the rooms that use it work with the certified " +
			"module refusing everything that is not approved.", []Run{
			{Packages: here, Tests: "^TestCryptographyIsListed$"},
			{
				Packages: "./sealed/... ./keysource/... ./keyvault/... ./identity/... ./audit/... ./account/...",
				Tests:    ".",
				Env:      []string{"GODEBUG=fips140=only", "GOFIPS140=v1.0.0"},
			},
		}},
	{
		"cryptography",
		"The primitives agree with published vectors; a second decoder, in another language, reads our formats; no " +
			"salt or nonce is used twice.", []Run{
			{Packages: here, Tests: "^(TestPublishedVectors|TestIndependentDecoder)$"},
			{Packages: "./sealed/internal/format", Tests: ".", Env: []string{"VISAGE_SEALS=500000"}},
		}},
	{
		"leak",
		"Names, userData and templates are in no file, log, metric, audit entry or temporary file in any form; after " +
			"the lock of a resource its templates are nowhere in the memory of the process, nor are its keys in a " +
			"build that erases freed memory; a copy of the disk without the root key opens nothing.", []Run{
			{Packages: here, Tests: "^(TestNothingLeaks|TestStolenDataOpensNothing|TestProgramRefusesStolenData)$"},
			{Packages: "./sealed", Tests: "^(TestNothingReadableOnDisk|TestBlindedIDsTellNothing)$"},
			{Packages: "./sealed", Tests: "^TestLockedKeysAreNowhere$", Env: []string{"GOEXPERIMENT=runtimesecret"}},
		}},
	{"tamper", "Every change of stored data is detected and named, and never read as other data.", []Run{
		{Packages: "./sealed", Tests: "Changed|Replayed|AreFound|IsFound|Refused$|Protected$", Timeout: "20m"},
		{Packages: here, Tests: "^(TestVerifyReportsDamage|TestDamagedDirectory|TestFlippedByteIsNeverWrongData)$",
			Env: []string{"VISAGE_ROUNDS=300"}, Timeout: "20m"},
	}},
	{
		"api",
		"No request to any operation of any plane makes the service fail or damages data, and each refusal has the " +
			"form of the plane's contract; both versions of the Face API answer alike except for the differences in " +
			"the contract.",
		[]Run{
			{Packages: here, Tests: "^(TestAPIFuzz|TestVersionsAgree)$", Env: []string{"VISAGE_FUZZ=2m"},
				Timeout: "90m"},
		}},
	{
		"vault",
		"A vault or proxy that delays, fails, denies or lies never brings a resource into a state outside of its " +
			"lifecycle, and never loses stored data; a denial locks in time in every store, an outage does not count " +
			"as one, a further store serves in time, and nothing opens without the vault or the key store of another " +
			"vendor, whatever else is stolen.", []Run{
			{Packages: here, Tests: "^(TestVaultStorm|TestTimeToBlock(In(AWS|Google|KMIP|Transit))?)$",
				Env: []string{"VISAGE_ROUNDS=60"}, Timeout: "30m"},
			{Packages: here, Tests: "^TestTimeToBlockInHSM$", Env: []string{"VISAGE_ROUNDS=200"}, Timeout: "30m"},
			{Packages: "./custody", Tests: ".", Timeout: "20m"},
			{Packages: "./server", Tests: "^(TestCustomerKey|TestTwoStores|TestAssertionsOfConfirmations" +
				"|TestAssertionsOfTheirTime|TestSigningKeyChangesWhileKeysAreInUse|TestTheftOfARootKeyInAStore" +
				"|TestStoreOfOneLoginNamesItsResources|TestOneApplicationServesNamedResources" +
				"|Test(Transit|AWS|Google|HSM|KMIP|Federated)(OfOthers|Refusals|Theft)?)$", Timeout: "30m"},
			{Packages: "./keysource/...", Tests: "^Test(Conformance|Answers|AnswersOfHosts|States|Logins|Reasons" +
				"|Faults|Specification|OASISCases|Silence|SilentHost)$", Timeout: "20m"},
			{Packages: "./server", Tests: "^(TestTimeToBlockInStores|TestFailoverInRealTime)$",
				Env: []string{"VISAGE_REAL_TIME=40"}, Timeout: "30m"},
		}},
	{
		"crash",
		"Acknowledged data is never lost, and no other data appears: power cuts at every operation of the file " +
			"system, with torn and lost writes, with one writer and with 16 that share commits; a disk that fails " +
			"or is full; a revocation in every phase of a shared commit; kill -9 of the running program.", []Run{
			{
				Packages: "./sealed",
				Tests: "^(TestPowerCutAtEveryOperation|TestFailingDisk|TestPowerCutAtEveryOperationOfSharedCommits|TestFailingDiskUnderSharedCommits" +
					"|TestRevocationInEveryPhaseOfASharedCommit|TestWritersThatShareCommitsAgreeWithAModel)$",
				Env: []string{"VISAGE_CRASH_POINTS=4800"}, Timeout: "40m",
			},
			{Packages: here, Tests: "SurvivesKill", Env: []string{"VISAGE_ROUNDS=60"}, Timeout: "30m"},
		}},
}

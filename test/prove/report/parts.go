package main

const here = "./test/prove"

// parts are the proof, in the order in which they run: what ends soonest comes first.
var parts = []Part{
	{"authorisation", "Every route of every plane answers every kind of caller as docs/authorisation.md says.", []Run{
		{Packages: "./server", Tests: "^(TestAuthorisation|TestPagesForMachines)$"},
	}},
	{
		"fips",
		"Every use of cryptography is listed with its standing, and the rooms that have one work with the certified " +
			"module " +
			"refusing whatever is not approved.", []Run{
			{Packages: here, Tests: "^TestCryptographyIsListed$"},
			{
				Packages: "./sealed/... ./keysource/... ./keyvault/... ./identity/... ./audit/... ./account/...",
				Tests:    ".",
				Env:      []string{"GODEBUG=fips140=only", "GOFIPS140=v1.0.0"},
			},
		}},
	{
		"cryptography",
		"The primitives do what published vectors say; a second reader, in another language, reads our formats; no " +
			"salt or nonce comes twice.", []Run{
			{Packages: here, Tests: "^(TestPublishedVectors|TestIndependentDecoder)$"},
			{Packages: "./sealed/internal/format", Tests: ".", Env: []string{"VISAGE_SEALS=500000"}},
		}},
	{
		"leak",
		"Names, userData and templates are in no file, log, metric, audit entry or temporary file in any form; after " +
			"the lock of a resource its " +
			"templates, and in a build that erases what the collector frees all its keys, are nowhere in the memory " +
			"of the process; a copy of the disk without the root key opens nothing.", []Run{
			{Packages: here, Tests: "^(TestNothingLeaks|TestStolenDataOpensNothing|TestProgramRefusesStolenData)$"},
			{Packages: "./sealed", Tests: "^(TestNothingReadableOnDisk|TestBlindedIDsTellNothing)$"},
			{Packages: "./sealed", Tests: "^TestLockedKeysAreNowhere$", Env: []string{"GOEXPERIMENT=runtimesecret"}},
		}},
	{"tamper", "Whatever is changed in what is stored is found and named, and never read as something else.", []Run{
		{Packages: "./sealed", Tests: "Changed|Replayed|AreFound|IsFound|Refused$|Protected$", Timeout: "20m"},
		{Packages: here, Tests: "^(TestVerifyReportsDamage|TestDamagedDirectory|TestFlippedByteIsNeverWrongData)$",
			Env: []string{"VISAGE_ROUNDS=300"}, Timeout: "20m"},
	}},
	{
		"api",
		"Whatever is sent to any operation of any plane, the service does not fail, spells each refusal as the " +
			"plane's contract has it, and has nothing " +
			"damaged in the end; both versions of the Face API answer alike but for what the contract has otherwise.",
		[]Run{
			{Packages: here, Tests: "^(TestAPIFuzz|TestVersionsAgree)$", Env: []string{"VISAGE_FUZZ=2m"},
				Timeout: "90m"},
		}},
	{
		"vault",
		"A vault that delays, fails, denies or lies, or a proxy before it that does, never makes a resource be in a " +
			"state that its life does not name, nor " +
			"lose what was stored; a denial locks in time, an outage does not count as one, and nothing opens " +
			"without the vault.", []Run{
			{Packages: here, Tests: "^(TestVaultStorm|TestTimeToBlock)$", Env: []string{"VISAGE_ROUNDS=60"},
				Timeout: "30m"},
			{Packages: "./custody", Tests: ".", Timeout: "20m"},
			{Packages: "./server", Tests: "^TestCustomerKey$"},
		}},
	{
		"crash",
		"What was acknowledged is never lost, and nothing else is ever there: power cuts at every operation of the " +
			"file system, with torn " +
			"and lost writes, with one writer and with 16 that share commits; a disk that fails or is full; a " +
			"revocation in every phase of a shared " +
			"commit; kill -9 of the running program.", []Run{
			{
				Packages: "./sealed",
				Tests: "^(TestPowerCutAtEveryOperation|TestFailingDisk|TestPowerCutAtEveryOperationOfSharedCommits|TestFailingDiskUnderSharedCommits" +
					"|TestRevocationInEveryPhaseOfASharedCommit|TestWritersThatShareCommitsAgreeWithAModel)$",
				Env: []string{"VISAGE_CRASH_POINTS=4800"}, Timeout: "40m",
			},
			{Packages: here, Tests: "SurvivesKill", Env: []string{"VISAGE_ROUNDS=60"}, Timeout: "30m"},
		}},
}

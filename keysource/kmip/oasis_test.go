package kmip_test

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/test/keystores"
)

// The sections are those of "Key Management Interoperability Protocol Specification Version 1.4", OASIS Standard,
// 22 November 2017.

// message is an answer of a server in a version of the protocol.
func message(version api.ProtocolVersion, items ...api.ResponseBatchItem) []byte {
	return ttlv.MarshalTTLV(&api.ResponseMessage{
		Header:    api.ResponseHeader{ProtocolVersion: version, TimeStamp: time.Now(), BatchCount: int32(len(items))},
		BatchItem: items,
	})
}

// done is the part of an answer with what was asked for.
func done(payload api.OperationPayload) api.ResponseBatchItem {
	return api.ResponseBatchItem{Operation: payload.Operation(), ResponsePayload: payload}
}

// failed is the part of an answer that says why there is nothing.
func failed(operation api.Operation, reason api.ResultReason) api.ResponseBatchItem {
	return api.ResponseBatchItem{Operation: operation, ResultStatus: api.ResultStatusOperationFailed,
		ResultReason: reason, ResultMessage: "no"}
}

// saying is the part of an answer with another message.
func saying(item api.ResponseBatchItem, message string) api.ResponseBatchItem {
	item.ResultMessage = message
	return item
}

// about is the answer to a question for the attributes of the key "1".
func about(attributes ...api.Attribute) api.ResponseBatchItem {
	return done(&payloads.GetAttributesResponsePayload{UniqueIdentifier: "1", Attribute: append(attributes,
		api.Attribute{AttributeName: api.AttributeNameName, AttributeValue: api.Name{NameValue: "faces",
			NameType: api.NameTypeUninterpretedTextString}})})
}

func inState(s api.State) api.ResponseBatchItem {
	return about(api.Attribute{AttributeName: api.AttributeNameState, AttributeValue: s})
}

// answered opens the key "faces" on a server that gives these answers.
func answered(t *testing.T, k *keystores.KMIP, answers ...[]byte) *kmip.Source {
	t.Helper()
	server, err := kmip.NewServer(kmip.Config{Address: k.Impostor(answers...), Roots: k.CA()},
		here{k.CertificateFile, k.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	src, err := server.Open("uri", "faces", "")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestSpecification holds what each answer that the specification allows means here.
func TestSpecification(t *testing.T) {
	k := keystores.StartKMIP(t)
	id := k.MakeKey("faces")
	blob, _, err := serve(t, k).Open(key(k, "faces", id)).Wrap(t.Context(), inner)
	if err != nil {
		t.Fatal(err)
	}
	one := func(item api.ResponseBatchItem) []byte { return message(api.V1_4, item) }
	located := func(ids ...string) []byte { return one(done(&payloads.LocateResponsePayload{UniqueIdentifier: ids})) }
	status := func(s api.ResultStatus) []byte {
		item := inState(api.StateActive)
		item.ResultStatus = s
		return one(item)
	}
	active := one(inState(api.StateActive))
	const question = "the answer is not the one to the question"
	denied, wrong, unknown := keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown
	type specified struct {
		find    bool // the key is looked for by its name; else the probe is decrypted
		answers [][]byte
		class   error
		reason  keysource.Reason
		says    string
	}
	invalid := func(message string, class error) specified {
		return specified{false, [][]byte{active, one(saying(failed(api.OperationDecrypt, api.ResultReasonInvalidField),
			message))}, class, "", message}
	}
	for name, c := range map[string]specified{
		// §4.9 Locate: nothing found is no error, and a name may have several objects after a new key was registered.
		"4.9 none":    {true, [][]byte{located()}, denied, keysource.Missing, "no key with the name"},
		"4.9 several": {true, [][]byte{located("1", "2")}, unknown, "", "2 objects have the name"},
		"4.9 gone meanwhile": {true, [][]byte{located("1"), one(failed(api.OperationGetAttributes,
			api.ResultReasonItemNotFound))}, denied, keysource.Missing, "ItemNotFound"},
		// §3.22 State, of a key whose attributes outlive its material (§4.21 Destroy).
		"3.22 pre-active": {false, [][]byte{one(inState(api.StatePreActive))}, denied, keysource.NotYetValid,
			"not active"},
		"3.22 deactivated": {false, [][]byte{one(inState(api.StateDeactivated))}, denied, keysource.Disabled,
			"deactivated"},
		"3.22 compromised": {false, [][]byte{one(inState(api.StateCompromised))}, denied, keysource.Disabled,
			"compromised"},
		"3.22 destroyed": {false, [][]byte{one(inState(api.StateDestroyed))}, denied, keysource.Missing, "destroyed"},
		"3.22 destroyed and compromised": {false, [][]byte{one(inState(api.StateDestroyedCompromised))}, denied,
			keysource.Missing, "destroyed"},
		"3.22 without a state": {false, [][]byte{one(about())}, unknown, "", "state 0"},
		"4.21 attributes gone": {false, [][]byte{one(failed(api.OperationGetAttributes, api.ResultReasonItemNotFound))},
			denied, keysource.Missing, "ItemNotFound"},
		// §4.12 Get Attributes, §11 Error Handling.
		"11 permission": {false, [][]byte{one(failed(api.OperationGetAttributes, api.ResultReasonPermissionDenied))},
			denied, keysource.Permission, "PermissionDenied"},
		"11 archived": {false, [][]byte{active, one(failed(api.OperationDecrypt, api.ResultReasonObjectarchived))},
			unknown, "", "archived"},
		"11 authentication": {false, [][]byte{one(failed(api.OperationGetAttributes,
			api.ResultReasonAuthenticationNotSuccessful))}, denied, keysource.NoIdentity,
			"AuthenticationNotSuccessful"},
		"11 general": {false, [][]byte{one(failed(api.OperationGetAttributes, api.ResultReasonGeneralFailure))},
			unknown, "", "GeneralFailure"},
		"11 attestation": {false, [][]byte{one(failed(api.OperationGetAttributes,
			api.ResultReasonAttestationRequired))}, unknown, "", "AttestationRequired"},
		// §4.30 Decrypt: what a server says of a key that is not active differs, and its state decides.
		"4.30 permission": {false, [][]byte{active, one(failed(api.OperationDecrypt,
			api.ResultReasonPermissionDenied))}, denied, keysource.Permission, "PermissionDenied"},
		"4.30 another key's": {false, [][]byte{active, one(failed(api.OperationDecrypt,
			api.ResultReasonCryptographicFailure))}, wrong, "", "CryptographicFailure"},
		// A tag that does not match is a cryptographic failure (CS-BC-M-GCM-1-14 of the test cases), for some servers
		// an invalid field that they name. Any other field that a server does not take, a tag of its length included,
		// is one of the question, and that is the same for every key: a server that was updated must not lock all
		// resources.
		"4.30 a field": {false, [][]byte{active, one(failed(api.OperationDecrypt, api.ResultReasonInvalidField))},
			unknown, "", "InvalidField"},
		"4.30 the tag":               invalid("Authenticated Encryption Tag is not valid", wrong),
		"4.30 the tag, in code":      invalid("invalid field AuthenticatedEncryptionTag", wrong),
		"4.30 the tag, in short":     invalid("GCM tag mismatch", wrong),
		"4.30 the tag, in prose":     invalid("the authentication tag does not match", wrong),
		"4.30 the length of the tag": invalid("Authenticated Encryption Tag: length must be 12", unknown),
		"4.30 the size of the tag":   invalid("a tag of 16 bytes is not accepted", unknown),
		"4.30 no tag":                invalid("Authenticated Encryption Tag is missing", unknown),
		"4.30 modes without a tag":   invalid("Authenticated Encryption Tag is not supported", unknown),
		"4.30 a tag of the encoding": invalid("invalid tag 0x4200FE", unknown),
		"4.30 any tag":               invalid("invalid tag", unknown),
		"4.30 the type of the tag": invalid("Invalid TTLV type for tag AuthenticatedEncryptionTag. "+
			"Got TextString but expected ByteString", unknown),
		"4.30 the type of the nonce": invalid("Invalid TTLV type for tag IVCounterNonce. "+
			"Got TextString but expected ByteString", unknown),
		"4.30 a field without a name": invalid("unrecognized tag: IV/Counter/Nonce", unknown),
		"4.30 the order of fields":    invalid("expected tag Data, got tag IVCounterNonce", unknown),
		"4.30 another field": invalid("tag Authenticated Encryption Additional Data not allowed",
			unknown),
		"4.30 a percentage, a stage": invalid("the percentage of this stage is invalid", unknown),
		"4.30 the tag, to another question": {false, [][]byte{one(saying(failed(api.OperationGetAttributes,
			api.ResultReasonInvalidField), "invalid tag"))}, unknown, "", "invalid tag"},
		"4.30 deactivated meanwhile": {false, [][]byte{active, one(failed(api.OperationDecrypt,
			api.ResultReasonIllegalOperation)), one(inState(api.StateDeactivated))}, denied, keysource.Disabled,
			"deactivated"},
		"4.30 illegal while active": {false, [][]byte{active, one(failed(api.OperationDecrypt,
			api.ResultReasonIllegalOperation)), active}, unknown, "", "IllegalOperation"},
		"4.30 another identifier": {false, [][]byte{active, one(done(&payloads.DecryptResponsePayload{
			UniqueIdentifier: "2", Data: inner}))}, wrong, "", "answered for key"},
		"4.30 no data": {false, [][]byte{active, one(done(&payloads.DecryptResponsePayload{UniqueIdentifier: "1"}))},
			unknown, "", "no plaintext"},
		// §6.9 Result Status: an answer that comes later, or that a batch has taken back, is none.
		"6.9 pending": {false, [][]byte{status(api.ResultStatusOperationPending)}, unknown, "", question},
		"6.9 undone":  {false, [][]byte{status(api.ResultStatusOperationUndone)}, unknown, "", question},
		// §7.2 Operations: one item for one question, with its operation.
		"7.2 two items": {false, [][]byte{message(api.V1_4, inState(api.StateDestroyed), inState(api.StateDestroyed))},
			unknown, "", question},
		"7.2 an item and a failure": {false, [][]byte{message(api.V1_4, inState(api.StateActive),
			failed(api.OperationGetAttributes, api.ResultReasonPermissionDenied))}, unknown, "", question},
		"7.2 the refusal of another": {false, [][]byte{one(failed(api.OperationDestroy,
			api.ResultReasonPermissionDenied))}, unknown, "", question},
		"7.2 without an operation": {false, [][]byte{one(failed(0, api.ResultReasonInvalidMessage))}, unknown, "",
			"InvalidMessage"},
		// §6.1 Protocol Version: a server says in a version of its own that it does not speak ours.
		"6.1 an older server": {false, [][]byte{message(api.V1_2, failed(api.OperationGetAttributes,
			api.ResultReasonInvalidMessage))}, unknown, "", "version 1.2"},
		"6.1 a refusal in another version": {false, [][]byte{message(api.V1_0, failed(api.OperationGetAttributes,
			api.ResultReasonPermissionDenied))}, unknown, "", "version 1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			src := answered(t, k, c.answers...)
			var err error
			if c.find {
				_, err = src.Describe(t.Context(), keysource.Ref{})
			} else {
				_, err = src.Unwrap(t.Context(), keysource.Ref{URI: "uri", Version: "1"}, blob)
			}
			want(t, err, c.class, c.reason, c.says)
		})
	}
}

// refusedCase is a part of an answer in a test case of OASIS.
type refusedCase struct {
	Operation struct {
		Value string `xml:"value,attr"`
	}
	ResultStatus struct {
		Value string `xml:"value,attr"`
	}
	ResultReason struct {
		Value string `xml:"value,attr"`
	}
}

// TestOASISCases has a server give every refusal of the test cases that OASIS publishes for KMIP 1.4, as the answer to
// what is asked here, and to something else. The cases are read where the client's module has them.
func TestOASISCases(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ovh/kmip-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	cases := filepath.Join(strings.TrimSpace(string(out)), "kmiptest", "testdata", "v1.4", "*.xml")
	files, err := filepath.Glob(cases)
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files of test cases: %v", len(files), err)
	}
	tags := 0
	reasons := map[string]int{}
	operations := map[string]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all struct {
			Answers []struct {
				Items []refusedCase `xml:"BatchItem"`
			} `xml:"ResponseMessage"`
		}
		if err := xml.Unmarshal(raw, &all); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		for _, answer := range all.Answers {
			for _, item := range answer.Items {
				if item.ResultStatus.Value == "OperationFailed" {
					reasons[item.ResultReason.Value]++
					operations[item.Operation.Value] = true
					if item.Operation.Value == "Decrypt" && strings.Contains(file, "-GCM-") {
						tags++
						if r := item.ResultReason.Value; r != "CryptographicFailure" {
							t.Errorf("%s: a tag that does not match gives %s", filepath.Base(file), r)
						}
					}
				}
			}
		}
	}
	named := map[string]api.ResultReason{}
	for reason := api.ResultReasonItemNotFound; reason <= api.ResultReasonObjectAlreadyExists; reason++ {
		named[ttlv.EnumStr(reason)] = reason
	}
	named[ttlv.EnumStr(api.ResultReasonGeneralFailure)] = api.ResultReasonGeneralFailure
	verdicts := map[string]keysource.Reason{
		"PermissionDenied": keysource.Permission, "ItemNotFound": keysource.Missing,
	}
	k := keystores.StartKMIP(t)
	for name, times := range reasons {
		reason, known := named[name]
		if !known {
			t.Fatalf("no reason is named %q", name)
		}
		for _, operation := range []api.Operation{api.OperationGetAttributes, api.OperationDestroy} {
			src := answered(t, k, message(api.V1_4, failed(operation, reason)))
			_, err := src.Describe(t.Context(), keysource.Ref{URI: "uri", Version: "1"})
			verdict, is := verdicts[name]
			if is = is && operation == api.OperationGetAttributes; is {
				want(t, err, keysource.ErrDenied, verdict, name)
			} else {
				want(t, err, keysource.ErrUnknown, "", name)
			}
		}
		t.Logf("%s: %d times", name, times)
	}
	if len(reasons) < 5 || len(operations) < 5 || tags < 3 {
		t.Errorf("the cases have %d reasons, %d operations and %d tags that do not match: too few to be those of OASIS",
			len(reasons), len(operations), tags)
	}
}

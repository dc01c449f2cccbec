package vision

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Library returns the path of the ONNX Runtime library for this machine inside the folder that holds models/package.json,
// where npm has installed it. The error says how to get it.
func Library(models string) (string, error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	name := map[string]string{"linux": "libonnxruntime.so.*", "darwin": "libonnxruntime.*.dylib"}[runtime.GOOS]
	if arch == "" || name == "" {
		return "", fmt.Errorf("find ONNX Runtime: there is no library for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	dir := filepath.Join(models, "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch)
	found, err := filepath.Glob(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("find ONNX Runtime: %w", err)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("find ONNX Runtime: %w in %s; `make setup` installs it", os.ErrNotExist, dir)
	}
	return filepath.Abs(found[0])
}

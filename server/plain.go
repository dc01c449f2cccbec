package server

import (
	"encoding/json"
	"net/http"
)

// refusePlainly answers what no plane is reached for, in the shape that most dialects share.
func refusePlainly(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// An error here is a client that went away.
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
}

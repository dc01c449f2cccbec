// Package deploy checks what runs the container image: the Helm chart and the Compose file. It is a module of its own,
// because Helm and the types of Kubernetes need much that the service does not.
package deploy

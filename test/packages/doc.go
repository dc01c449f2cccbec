// Package packages checks what packaging makes, as its operators meet it: packages are installed, upgraded and removed
// in a root of their own, the image runs without a writable root, and a release is verified and built once more.
//
// The unit file and the scripts are checked in every run. The rest needs what "make prove-packages" builds, and names
// with the flag -dist.
package packages

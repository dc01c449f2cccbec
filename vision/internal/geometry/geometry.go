// Package geometry computes with the points of a face: its landmarks, the direction of the head, and the maps that
// bring one set of points onto another.
//
// All functions are pure. Points are in pixels of the upright picture; left and right are sides of the picture.
package geometry

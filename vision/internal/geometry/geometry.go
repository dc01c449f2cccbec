// Package geometry turns the points of a face into what they say: where its features lie, which way the head points,
// and by which map one set of points is brought to another.
//
// All functions are pure. Points are in pixels of the upright picture; left and right are sides of the picture.
package geometry

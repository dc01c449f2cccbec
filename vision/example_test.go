package vision_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// Two photos are compared by the largest face on each.
func Example() {
	models, err := pack.Open("models/packs/default")
	if err != nil {
		log.Fatal(err)
	}
	pipeline, err := vision.Open(vision.Config{Pack: models, Library: "libonnxruntime.so.1"})
	if err != nil {
		log.Fatal(err)
	}
	defer pipeline.Close()

	largest := func(name string) ([]float32, error) {
		file, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		photo, err := pipeline.Detect(context.Background(), file, vision.Want{
			Templates: true,
			Select:    func(faces []vision.Face) []int { return []int{0}[:min(len(faces), 1)] },
		})
		if err != nil {
			return nil, err
		}
		if len(photo.Faces) == 0 {
			return nil, errors.New("nobody is on " + name)
		}
		return photo.Faces[0].Template, nil
	}
	a, errA := largest("passport.jpg")
	b, errB := largest("visitor.jpg")
	if err := errors.Join(errA, errB); err != nil {
		log.Fatal(err)
	}
	distance := 1.0
	for i := range a {
		distance -= float64(a[i]) * float64(b[i])
	}
	fmt.Printf("the same person with a confidence of %.2f\n", pipeline.Confidence(distance))
}

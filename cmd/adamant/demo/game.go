package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"

	"github.com/adamantdb/adamant"
)

// game is the script of a board game between a few players: a board of 8 × 8 fields, scores, whose turn it is. A move puts a
// piece somewhere, may capture one, and passes the turn; its redo and undo are merge patches. It has no end.
type game struct {
	name string
	seed uint64

	rng     *rand.Rand
	seq     int64
	players []string
	state   gameState
}

// gameState is the document after the deltas so far.
type gameState struct {
	Title  string            `json:"title"`
	Turn   string            `json:"turn"`
	Moves  int               `json:"moves"`
	Board  map[string]string `json:"board"`
	Scores map[string]int    `json:"scores"`
}

// gameSpace is the space of all generated documents.
const gameSpace = "games"

func newGame(number int, seed uint64) *game {
	g := &game{name: fmt.Sprintf("game-%05d", number), seed: seed + uint64(number)}
	g.reset()
	return g
}

func (g *game) reset() {
	g.rng = rand.New(rand.NewPCG(g.seed, 0x9e3779b97f4a7c15))
	g.seq = 0
	g.players = []string{"alice", "bob", "carol", "dave"}[:2+g.rng.IntN(3)]
	g.state = gameState{}
}

func (g *game) key() adamant.Key { return adamant.Key{Space: gameSpace, Key: g.name} }

func (g *game) length() int { return 0 }

func (g *game) again() script {
	c := &game{name: g.name, seed: g.seed}
	c.reset()
	return c
}

func (g *game) next(max int) []adamant.Delta {
	var deltas []adamant.Delta
	for range max {
		if g.seq == 0 {
			deltas = append(deltas, g.start())
		} else {
			deltas = append(deltas, g.move())
		}
	}
	return deltas
}

// start sets the board up.
func (g *game) start() adamant.Delta {
	g.state = gameState{Title: "round of " + g.name, Turn: g.players[0], Board: map[string]string{}, Scores: map[string]int{}}
	for _, p := range g.players {
		g.state.Scores[p] = 0
	}
	g.seq = 1
	return adamant.Delta{SeqBegin: 1, SeqEnd: 1, Who: g.players[0], Redo: encode(g.state), Request: encode(patch{"command": "start"}),
		Undo: encode(patch{"title": nil, "turn": nil, "moves": nil, "board": nil, "scores": nil})}
}

type patch map[string]any

// move makes one move. One in ten takes several sequence numbers, as a server's compound steps do.
func (g *game) move() adamant.Delta {
	player, moves := g.state.Turn, g.state.Moves
	next := g.players[(indexOf(g.players, player)+1)%len(g.players)]
	field := fmt.Sprintf("%c%d", 'a'+g.rng.IntN(8), 1+g.rng.IntN(8))
	redo := patch{"turn": next, "moves": moves + 1}
	undo := patch{"turn": player, "moves": moves}
	redoBoard, undoBoard := patch{}, patch{}
	if piece, taken := g.state.Board[field]; taken { // captured: the field is cleared and the score grows
		redoBoard[field], undoBoard[field] = nil, piece
		redo["scores"], undo["scores"] = patch{player: g.state.Scores[player] + 1}, patch{player: g.state.Scores[player]}
		delete(g.state.Board, field)
		g.state.Scores[player]++
	} else {
		piece := player + "-" + []string{"pawn", "rook", "knight"}[g.rng.IntN(3)]
		redoBoard[field], undoBoard[field] = piece, nil
		g.state.Board[field] = piece
	}
	redo["board"], undo["board"] = redoBoard, undoBoard
	g.state.Turn, g.state.Moves = next, moves+1
	d := adamant.Delta{SeqBegin: g.seq + 1, SeqEnd: g.seq + 1, Who: player, Redo: encode(redo), Undo: encode(undo),
		Request: encode(patch{"command": "move", "to": field})}
	if g.rng.IntN(10) == 0 {
		d.SeqEnd += int64(1 + g.rng.IntN(3))
	}
	g.seq = d.SeqEnd
	return d
}

func (g *game) check(document []byte) error {
	var got, want any
	if err := json.Unmarshal(document, &got); err != nil {
		return err
	}
	if err := json.Unmarshal(encode(g.state), &want); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("reads %.200s, but %.200s was written", document, encode(g.state))
	}
	return nil
}

// encode marshals what always can be.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and structs of strings and numbers
	}
	return b
}

func indexOf(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return 0
}

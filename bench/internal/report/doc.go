// Package report makes one HTML page of results that bench and bench/peers have saved.
//
// # Ideas
//
//   - The page is whole: plots are inline SVG, styles are in it, there are no scripts, and nothing is loaded from anywhere.
//     It can be kept beside the files and sent around.
//   - The same results give the same bytes.
//   - A median never stands alone: tables say from where to where the rounds went, and plots show every round.
//   - Axes of figures begin at zero, so that lengths can be compared.
//   - What was not measured is a dash in tables, and not in plots.
//
// # Parts
//
// page.go decides what is shown and fills page.gohtml; plot.go draws one plot with gonum's plot; number.go writes numbers.
// What files hold is the business of package saved.
package report
